"""Metrics and diagnostic logs. Neither ever holds a prompt or a key."""
