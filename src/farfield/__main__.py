"""``python -m farfield`` is the command line."""

from farfield.cli import main

main()
