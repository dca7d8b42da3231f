"""Doing it again: replay, retrain, promote, roll back, and the run that does it all."""
