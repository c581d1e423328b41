"""What each command of `walvec` does; `walvec.cli` parses the command line.

One module or room for each command. Its functions take the settings and plain values, print to stdout and
raise WalvecError. Modules are imported on use, so a command pays only for the libraries that it needs.
"""
