"""What can be run: catalog, checkpoint files, tokenizers, chat templates."""
