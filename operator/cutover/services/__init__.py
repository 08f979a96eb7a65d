"""What runs beside Kopf: the loops of plans and the feeds that they take from."""
