"""The second-order phase: a few edges, one problem at a time."""
