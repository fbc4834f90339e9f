"""Files -> pairs -> batches."""
