"""The state machine: what happens to a plan, and the order of its writes."""
