"""Ages of faces: Table 2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import (
    RUNS,
    Backbone,
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


def faces(
    data: Annotated[
        Path, typer.Option("--data", help="Your folder of UTKFace, or its archive (zip, tar.gz).")
    ],
    backbone: Backbone = None,
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
    """Ages of faces of an ethnicity that training has not seen (Table 2 and Fig. 4).

    10 epochs and 25 seeds by default. The licence of UTKFace does not allow to ship it.
    """
    set_threads(threads)
    from farfield.studies import faces as study

    settings = study.Settings(
        device=device, **scale(study.QUICK if quick else {}, seeds=seeds, epochs=epochs)
    )
    folder = out or RUNS / "faces"
    finish(
        study.run(
            data,
            settings,
            backbone=backbone,
            cache=cache,
            out=folder,
            resume=resume,
            overwrite=overwrite,
            progress=True,
        ),
        folder,
    )
