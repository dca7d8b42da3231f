"""Whether a model is good: metrics with intervals, by slice, and the gate it has to pass."""
