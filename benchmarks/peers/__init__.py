"""What others take for the same work, each in a process of its own, with an interpreter that has it installed."""
