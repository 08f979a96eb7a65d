"""Heroku's Platform API (https://devcenter.heroku.com/articles/platform-api-reference)."""
