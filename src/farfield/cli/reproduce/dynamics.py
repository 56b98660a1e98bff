"""The tangent kernel of deep networks in training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import RUNS, Device, Epochs, Out, Overwrite, Quick, Resume, Threads
from farfield.cli.printing import finish


def dynamics(
    data: Annotated[
        Path | None,
        typer.Option(
            help="MNIST: a folder with its files or an .npz [default: scikit-learn's digits].",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(help="Images to train on [default: 1000].", show_default=False),
    ] = None,
    quick: Quick = False,
    epochs: Epochs = None,
    out: Out = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """The tangent kernel while deep networks train (Seleznova and Kutyniok 2021, 2022).

    2000 epochs by default (3000 in the paper), on 1000 images.
    """
    set_threads(threads)
    from farfield.studies import dynamics as study

    settings = study.Settings(
        device=device, **scale(study.QUICK if quick else {}, epochs=epochs, rows=rows)
    )
    folder = out or RUNS / "dynamics"
    finish(
        study.run(
            settings, data=data, out=folder, resume=resume, overwrite=overwrite, progress=True
        ),
        folder,
    )
