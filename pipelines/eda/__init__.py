"""Explore the processed purchases: statistics, drift, what stands out, and one HTML report."""
