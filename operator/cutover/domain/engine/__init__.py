"""The state machine: what happens to a plan, and in which order it is written."""
