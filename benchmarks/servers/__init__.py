"""What `python -m benchmarks.serving` measures: our server, its neighbours, the load, and a bundle of real size."""
