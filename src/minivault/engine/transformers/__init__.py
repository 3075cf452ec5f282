"""Any causal language model of Hugging Face Transformers, through PyTorch: CPU, CUDA or MPS. An optional extra.

Scheduler and sampler are the native engine's; only the logits come from PyTorch. Nothing here is imported before a
model asks for this engine.
"""
