"""How a score is made: one protocol, and one module for each kind of model."""
