"""The model that ships, its rivals, and how they are measured."""
