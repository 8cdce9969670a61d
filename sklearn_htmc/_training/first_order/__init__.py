"""The first-order phase: from dense to sparse, a batch of problems at once."""
