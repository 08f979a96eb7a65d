"""The baseline: what is recorded of Heroku before the first step."""
