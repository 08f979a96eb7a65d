"""The Kubernetes API of the operator: models of specs and statuses, validation rules, and the generated CRDs."""
