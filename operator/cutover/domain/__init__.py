"""Decisions and what they need: no I/O, no clock, no Kopf."""
