"""Pydantic models of each surface, and their way to and from ``generation.py``."""
