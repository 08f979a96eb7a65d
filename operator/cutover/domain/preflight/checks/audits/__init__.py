"""What Heroku took care of and Kubernetes does not, by the plan's Deployment: one file for each assumption.

An audit warns and holds nothing: a manifest does not show what an app makes of it. Where a manifest cannot tell, nothing is
said. docs/audits.md has a section for each.
"""
