"""Custom SLOs, on the team's metrics: queries, series, bounds, gate templates and their judge."""
