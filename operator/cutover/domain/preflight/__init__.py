"""Whether a plan may begin."""
