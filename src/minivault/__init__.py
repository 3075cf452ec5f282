"""MiniVault: a private LLM server for one machine, which records every call and can prove and replay it."""

__version__ = "0.2.0"
