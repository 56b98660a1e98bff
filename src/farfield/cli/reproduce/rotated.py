"""Angles of turned clothes: Table 2 on data that anybody has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import (
    RUNS,
    Cache,
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


def rotated(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of Fashion-MNIST [default: that of Debian's dataset-fashion-mnist].",
            show_default=False,
        ),
    ] = None,
    hold_out: Annotated[str, typer.Option(help="The class that is out of domain.")] = "bag",
    cache: Cache = None,
    quick: Quick = False,
    seeds: Seeds = None,
    epochs: Epochs = None,
    out: Out = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Angles of turned clothes of a class that training has not seen (as Table 2).

    10 epochs and 25 seeds by default, on a frozen EfficientNet-Lite0.
    """
    set_threads(threads)
    from farfield.data.fashion import FASHION_FOLDER
    from farfield.studies import rotated as study

    settings = study.Settings(
        hold_out=(hold_out,),
        device=device,
        **scale(study.QUICK if quick else {}, seeds=seeds, epochs=epochs),
    )
    folder = out or RUNS / "rotated"
    finish(
        study.run(
            settings,
            data=data or FASHION_FOLDER,
            cache=cache,
            out=folder,
            resume=resume,
            overwrite=overwrite,
            progress=True,
        ),
        folder,
    )
