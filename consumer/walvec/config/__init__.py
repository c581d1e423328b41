"""The settings: `walvec.toml` and WALVEC_* variables, read, checked and shown."""
