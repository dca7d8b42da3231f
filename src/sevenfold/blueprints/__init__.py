"""Complete systems to run, read and start from."""
