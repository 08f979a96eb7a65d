"""``cutover-drain``: takes Logplex drains of Heroku apps, and exports what their logs say as metrics.

A process of its own that needs neither Kubernetes nor the operator. Nothing else imports it.
"""
