"""A trained run in, masks and scores out; only the torch predictor needs torch."""
