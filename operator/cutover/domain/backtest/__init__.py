"""Replays of a plan on recorded traffic."""
