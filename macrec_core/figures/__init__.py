"""Pictures of the report, the same bytes for the same data."""
