"""What was recorded of Heroku before anything moved."""
