"""Running the command line: bad input ends with one sentence and exit code 2."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer

from farfield.cli.app import app
from farfield.cli.arguments import command_line
from farfield.errors import FarfieldError
from farfield.studies.catalogue import CATALOGUE

_INTERRUPTED = 130  # the shells' code for a command ended by Ctrl-C
_RESUMABLE = ("extrapolate", "reproduce", "demo", "kernel")

# Click's class, which recent versions of typer carry in themselves under another name.
_UsageError: Any = typer.BadParameter.__bases__[0]


def main() -> NoReturn:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    try:
        code = app(prog_name="farfield", standalone_mode=False)
    except FarfieldError as error:
        _fail(str(error))
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        _fail(_usage(error))
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    if code == _INTERRUPTED:  # recent versions of typer turn Ctrl-C into this code themselves
        told = "Stopped; nothing of it is kept."
        if sys.argv[1:2] and sys.argv[1] in _RESUMABLE:
            told = f"Stopped; what was finished is kept. Go on with: {command_line()} --resume"
        print(f"\n{told}", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    print(f"farfield: {message}", file=sys.stderr)
    sys.exit(2)


def _usage(error: Any) -> str:
    """A usage error as one sentence that says what to do."""
    message = error.format_message()
    where = error.ctx.command_path if error.ctx is not None else "farfield"
    if message.startswith("No such command") and where.endswith("reproduce"):
        studies = ", ".join(entry.name for entry in CATALOGUE)
        message = f"{message.replace('command', 'study')} The studies are {studies}."
    return f"{message.rstrip('.')}. See `{where} --help`."
