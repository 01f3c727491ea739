"""A package, so that its file names may recur in the folders beside it."""
