"""One file for each question that a phase answers."""
