"""The four steps of a run, each a command: python -m pipelines.steps.NAME."""
