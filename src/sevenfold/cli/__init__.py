"""The command line: one command a file, each with `--json`."""
