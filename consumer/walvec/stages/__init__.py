"""The stages that a change passes, one module each."""
