"""Preflight checks: whether a plan may take over its hosts' traffic."""
