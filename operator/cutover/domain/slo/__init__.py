"""The team's custom SLOs: queries, series, bounds, templates."""
