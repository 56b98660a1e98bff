"""`farfield reproduce`: the published experiments, a command to a file."""

from __future__ import annotations

import typer

from farfield.cli.reproduce.abalone import abalone
from farfield.cli.reproduce.dispersion import dispersion
from farfield.cli.reproduce.dynamics import dynamics
from farfield.cli.reproduce.ella import ella
from farfield.cli.reproduce.faces import faces
from farfield.cli.reproduce.heatmaps import heatmaps
from farfield.cli.reproduce.paper import paper
from farfield.cli.reproduce.placements import placements
from farfield.cli.reproduce.protein import protein
from farfield.cli.reproduce.rotated import rotated
from farfield.cli.reproduce.theorems import theorems
from farfield.cli.reproduce.toy import toy
from farfield.cli.reproduce.transformer import transformer
from farfield.cli.reproduce.variance import variance

app = typer.Typer(help="Rerun a published experiment; see `farfield list`.", no_args_is_help=True)
for command in (
    *(abalone, dispersion, dynamics, ella, faces, heatmaps, paper, placements),
    *(protein, rotated, theorems, toy, transformer, variance),
):
    app.command()(command)
