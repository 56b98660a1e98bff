"""The command line: parse, call, print."""

from farfield.cli.run import main

__all__ = ["main"]
