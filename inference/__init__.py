"""Serve the champion bundle: GET /healthz and POST /predict."""
