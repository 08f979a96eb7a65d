"""Heroku's own record: the counters of ``cutover-drain``, made from the router's log."""
