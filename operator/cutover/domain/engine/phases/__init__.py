"""The phases of a plan: one file for each question that a phase answers."""
