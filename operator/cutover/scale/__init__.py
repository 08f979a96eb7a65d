"""Savings of memory and CPU time that only a thousand plans in one process need. Figures: docs/performance.md."""
