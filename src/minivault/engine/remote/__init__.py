"""Other servers as an engine: one or many that speak OpenAI's API, behind this server's keys, limits and vault.

They speak text, so their tokens have no ids here and nothing is promised about bytes.
"""
