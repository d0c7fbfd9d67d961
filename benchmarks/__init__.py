"""One script per claim; each prints its table: python -m benchmarks.NAME."""
