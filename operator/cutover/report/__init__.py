"""The report of a plan: its evidence as one page to hand on, from the plan alone or with Prometheus' history."""
