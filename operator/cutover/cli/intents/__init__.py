"""What people ask of a plan: what will happen, what is written, the same for Git, and how its effect is known. No I/O."""
