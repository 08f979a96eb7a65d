"""What people ask of the operator by annotations."""
