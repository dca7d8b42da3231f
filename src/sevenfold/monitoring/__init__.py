"""Watching: how far features have moved, and whether answers are still as good as they were."""
