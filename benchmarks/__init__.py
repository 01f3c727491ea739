"""Speed of the pipeline's work, against a plain version and the machine's own limits."""
