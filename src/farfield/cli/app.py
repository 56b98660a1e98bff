"""The commands, in the order in which the help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from farfield import __version__
from farfield.cli.certify import certify
from farfield.cli.demo import demo
from farfield.cli.diagnose import diagnose
from farfield.cli.extrapolate import extrapolate
from farfield.cli.kernel import kernel
from farfield.cli.listing import list_studies
from farfield.cli.regress import regress
from farfield.cli.reproduce import app as reproduce

app = typer.Typer(
    help="Tells how a neural network behaves far from its training data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # in the other mode [default: ...] would be taken for a style
)
app.add_typer(reproduce, name="reproduce")


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"farfield {__version__}")
        raise typer.Exit


app.command("list")(list_studies)
app.command()(extrapolate)
app.command()(certify)
app.command()(diagnose)
app.command()(regress)
app.command()(kernel)
app.command()(demo)
