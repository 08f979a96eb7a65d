"""Grafana dashboards of the operator, as typed code: ``python -m dashboards`` writes their JSON into the chart."""
