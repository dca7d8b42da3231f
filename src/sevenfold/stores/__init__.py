"""Where events, states and answers are kept: one small protocol, two stores, one log."""
