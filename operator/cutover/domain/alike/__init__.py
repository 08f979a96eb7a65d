"""Whether users get the same answers: as they come now, from Heroku through the gateway, and from EKS."""
