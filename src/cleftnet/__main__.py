"""Runs the command line as `python -m cleftnet`."""

from cleftnet.cli import main

if __name__ == "__main__":
    main()
