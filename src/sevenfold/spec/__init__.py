"""What the user declares: the seven steps of a system. Pure: no engine, no I/O."""
