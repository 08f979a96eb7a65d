"""How each traffic provider's requests are counted in Prometheus."""
