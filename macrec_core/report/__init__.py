"""From metric cells to the summary, the results table and the plots' data."""
