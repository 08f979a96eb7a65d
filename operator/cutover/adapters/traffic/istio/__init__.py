"""Istio as a traffic provider."""
