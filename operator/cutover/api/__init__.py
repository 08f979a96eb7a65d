"""The Kubernetes API of the operator: models of what people write and read."""
