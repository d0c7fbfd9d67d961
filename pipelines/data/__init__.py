"""What a row may be: sources, schema, quality rules, splits and the synthetic shop."""
