"""Names of the settings' file and of variables, for modules that must stay light.

Nothing is imported here, so that the shell's completion and `walvec --help` can share these with the code
that reads the settings.
"""

DEFAULT_PATH = "walvec.toml"

# Holds all vectorizers as JSON, in place of the file's.
VECTORIZERS = "WALVEC_VECTORIZER"

# Set to 1: errors are shown with their own words and their traceback.
TRACEBACK_VARIABLE = "WALVEC_TRACEBACK"
