"""A synthetic fashion shop that streams: what makes the real problem hard and learnable, at any size."""
