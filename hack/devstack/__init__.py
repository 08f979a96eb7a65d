"""The development stack: a real control plane, mesh and Prometheus on one machine's loopback.

`devstack.stack.Stack` is the way in.
"""
