"""The feature language compiled to a plan that both engines run."""
