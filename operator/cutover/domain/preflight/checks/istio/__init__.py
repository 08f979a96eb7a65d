"""Preflight checks for Istio, and the names that they share with the Istio adapter."""
