"""Operator commands: annotations by which people roll back, approve a step or skip a hold."""
