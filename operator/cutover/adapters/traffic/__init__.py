"""Providers that split requests between the legs."""
