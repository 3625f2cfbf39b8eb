"""What is done with the pipeline: a broker for it, and stories that are played on it."""
