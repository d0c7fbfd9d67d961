"""Statistics and the report that people read."""
