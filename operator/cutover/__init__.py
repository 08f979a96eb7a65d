"""Staged, evidence-gated cutovers of live traffic from Heroku to EKS."""
