"""Other recommenders on the same customers and label weeks as ours."""
