"""`python -m walvec`: the command."""

from walvec.cli.app import main

if __name__ == "__main__":
    main()
