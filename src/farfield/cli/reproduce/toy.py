"""Three functions on a line: Figs. 1, 5 and 6."""

from __future__ import annotations

from typing import Annotated

import typer

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import (
    RUNS,
    Activation,
    Data,
    Device,
    Epochs,
    Out,
    Overwrite,
    Quick,
    Resume,
    Seeds,
    Threads,
)
from farfield.cli.printing import finish


def toy(
    activation: Activation = "relu",
    norm: Annotated[
        str, typer.Option(help="layer (Figs. 1 and 5), batch (Fig. 6) or rms.")
    ] = "layer",
    overlays: Annotated[
        bool, typer.Option(help="Also compute what theory says, and certify trained networks.")
    ] = True,
    quick: Quick = False,
    seeds: Seeds = None,
    epochs: Epochs = None,
    out: Out = None,
    data: Data = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Three functions on a line, far outside the training interval (Figs. 1, 5, 6).

    3000 epochs and 5 seeds by default. The data are made, so --data has no effect.
    """
    del data
    set_threads(threads)
    from farfield.studies import toy as study

    settings = study.Settings(
        activation=activation,
        norm=norm,
        overlays=overlays,
        device=device,
        **scale(study.QUICK if quick else {}, seeds=seeds, epochs=epochs),
    )
    folder = out or RUNS / f"toy-{activation}-{norm}"
    finish(
        study.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True), folder
    )
