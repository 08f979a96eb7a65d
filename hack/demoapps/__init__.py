"""Two demo legs (Heroku and EKS) and the load on them.

`demoapps.apps.DemoApps` starts both legs, `demoapps.load.Load` the load; both
are driven over HTTP on loopback and run as processes of their own, so that the
tests' truth does not share an event loop with what it measures.
"""
