"""Serve the champion bundle: POST /predict, GET /healthz, /metrics and /docs."""
