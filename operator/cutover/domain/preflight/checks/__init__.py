"""The preflight checks: each module here or in a provider's folder that defines ``CHECK`` is a check."""
