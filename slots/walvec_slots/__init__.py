"""The stream: bytes in, confirmations out. Knows nothing of embeddings."""
