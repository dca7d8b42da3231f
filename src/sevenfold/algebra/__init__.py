"""What every aggregate means: update, merge and value over packed state."""
