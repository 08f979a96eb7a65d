"""What Kopf calls."""
