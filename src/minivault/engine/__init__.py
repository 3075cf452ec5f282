"""Engines: tokens in, tokens out. Know nothing of HTTP, SQLite or JSON."""
