"""Checks of what a plan asks of Istio, and the names that they share with the Istio adapter."""
