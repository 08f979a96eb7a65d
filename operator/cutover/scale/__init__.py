"""What is only there for a thousand plans in one process."""
