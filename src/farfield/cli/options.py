"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("farfield-runs")
MODEL = "my_model.py:build, a function without arguments that makes it."

Quick = Annotated[
    bool, typer.Option("--quick", help="A first look: few seeds and epochs, not the paper's scale.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        help="Networks of each kind [default: the study's].",
        show_default=False,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs", help="Passes over the data [default: the paper's].", show_default=False
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for the results [default: farfield-runs/NAME].",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder with the data file; else $FARFIELD_DATA, else a download to the cache.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps, ...")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="CPU threads [default: all cores].", show_default=False),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted run in the folder.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier run in the folder.")
]
Activation = Annotated[str, typer.Option("--activation", help="relu, gelu, silu, tanh, elu, ...")]
Backbone = Annotated[
    Path | None,
    typer.Option(
        "--backbone",
        help="Folder of a vision model of transformers [default: microsoft/resnet-18].",
        show_default=False,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache", help="Folder for features [default: the user's cache].", show_default=False
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="A .safetensors file, or a state dict from torch.save; nothing in it is run.",
        show_default=False,
    ),
]
WeightVar = Annotated[
    float | None,
    typer.Option(
        "--weight-var",
        help="Weights are N(0, this / fan_in) [default: as the model was drawn].",
        show_default=False,
    ),
]
BiasVar = Annotated[
    float | None,
    typer.Option(
        "--bias-var",
        help="Biases are N(0, this) [default: as the model was drawn].",
        show_default=False,
    ),
]
