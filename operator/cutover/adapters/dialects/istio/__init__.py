"""Requests as Istio's gateways count them."""
