"""From circuits to smaller circuits within a measured error."""
