"""Which model is trusted: immutable versions, movable names, and why they moved."""
