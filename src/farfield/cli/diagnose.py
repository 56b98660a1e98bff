"""`farfield diagnose`: whether theory describes the user's own network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.arguments import set_threads
from farfield.cli.options import MODEL, RUNS, Out, Overwrite, Threads
from farfield.cli.printing import finish


def diagnose(
    model: Annotated[str, typer.Argument(help=MODEL)],
    data: Annotated[
        Path, typer.Option(help="Inputs as a .npy file, the samples first; nothing in it is run.")
    ],
    targets: Annotated[
        Path | None,
        typer.Option(
            help="Targets as a .npy file: numbers, or whole numbers that name classes.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Number of random networks.")] = 200,
    steps: Annotated[int, typer.Option(help="Steps of Adam, with targets.")] = 100,
    learning_rate: Annotated[float, typer.Option(help="Adam's rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
    out: Out = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Say whether tangent-kernel theory describes YOUR network at its width and depth.

    Draws the network many times: how random is its tangent kernel, do gradients vanish or explode
    from layer to layer, does the kernel agree with that of infinite width, and with targets, does
    it change in a short training? Prints a verdict and the number that decides; writes
    diagnosis.json, metrics.csv and a report with figures. The file with the model runs, as it is
    your own.

    Example: farfield diagnose my_model.py:build --data x.npy --targets y.npy
    """
    set_threads(threads)
    from farfield.studies import diagnosis

    settings = diagnosis.Settings(
        model=model,
        data=str(data),
        targets=None if targets is None else str(targets),
        draws=draws,
        steps=steps,
        learning_rate=learning_rate,
        seed=seed,
    )
    folder = out or RUNS / f"diagnosis-{Path(model.rpartition(':')[0]).stem}"
    finish(diagnosis.run(settings, out=folder, overwrite=overwrite, progress=True), folder)
