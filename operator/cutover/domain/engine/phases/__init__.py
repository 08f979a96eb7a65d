"""One file for each question that a phase answers: what happens next, and why."""
