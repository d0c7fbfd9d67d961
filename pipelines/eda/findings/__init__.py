"""What stands out, in plain words."""
