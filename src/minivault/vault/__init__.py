"""The vault: durable, tamper-evident records. Knows nothing of models, tokens or HTTP."""
