"""Checks of what Heroku's record of the time before says about the plan."""
