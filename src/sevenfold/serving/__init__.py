"""Answering: events in, recommendations out, every answer logged with the exact features behind it."""
