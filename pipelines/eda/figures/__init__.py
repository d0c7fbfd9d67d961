"""Charts of the report: statistics tables in, blocks of the page out. Nothing here counts or reads."""
