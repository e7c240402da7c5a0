"""Measured runs; the figures are in RESULTS.md. `python -m benchmarks NAME…` makes them again."""
