"""What Heroku's Platform API says about the app, for plans that there is a key for: one file for each question.

Heroku's API is asked for advice. Without a key nothing is said; an API that is away, and what the key may not see, is a
warning and holds nothing.
"""
