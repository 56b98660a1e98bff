"""More norms and placements than the paper."""

from __future__ import annotations

from typing import Annotated

import typer

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import RUNS, Data, Device, Out, Overwrite, Quick, Resume, Seeds, Threads
from farfield.cli.printing import finish


def placements(
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Some of sine,linear,quadratic,protein,abalone [default: all].",
            show_default=False,
        ),
    ] = None,
    quick: Quick = False,
    seeds: Seeds = None,
    out: Out = None,
    data: Data = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Which norm, where, how deep, how wide: what extrapolates best, and is it shown?

    6 seeds by default, about half an hour on two cores; --quick takes two or three minutes.
    """
    set_threads(threads)
    from farfield.studies import placements as study

    chosen = None if tasks is None else tuple(tasks.split(","))
    settings = study.Settings(
        device=device, **scale(study.QUICK if quick else {}, seeds=seeds, tasks=chosen)
    )
    folder = out or RUNS / "placements"
    finish(
        study.run(
            settings, data=data, out=folder, resume=resume, overwrite=overwrite, progress=True
        ),
        folder,
    )
