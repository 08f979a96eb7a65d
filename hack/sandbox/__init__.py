"""A whole cutover on one machine: the stack, both legs, load, and the operator as its own process.

The demo, the end-to-end tests and the benchmarks share it.
"""
