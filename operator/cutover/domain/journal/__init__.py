"""What is written down of decisions, and who is told."""
