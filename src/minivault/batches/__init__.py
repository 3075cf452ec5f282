"""Files that clients upload and the batches of requests that they are, kept on disk. Knows nothing of HTTP."""
