"""What the operator needs of the outside world, as protocols. Adapters and services implement them; tests replace them."""
