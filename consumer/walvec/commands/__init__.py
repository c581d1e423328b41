"""What each command of `walvec` does; walvec.cli.app parses the words and calls here.

One module a command, with async functions that take the settings and plain values, print to stdout and
raise WalvecError. Imported on use: a command pays for its own libraries only.
"""
