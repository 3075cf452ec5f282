"""The native engine: exact by construction, on the CPU."""
