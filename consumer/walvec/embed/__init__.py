"""Text becomes vectors: one dispatcher, and one module for each provider."""
