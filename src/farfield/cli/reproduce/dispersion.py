"""Dispersion of the tangent kernel over random networks."""

from __future__ import annotations

from typing import Annotated

import typer

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import RUNS, Out, Overwrite, Quick, Resume, Threads
from farfield.cli.printing import finish


def dispersion(
    draws: Annotated[
        int | None,
        typer.Option(help="Random networks [default: the study's].", show_default=False),
    ] = None,
    quick: Quick = False,
    out: Out = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """How random the tangent kernel is, by depth and variance (Seleznova and Kutyniok 2022).

    8000 networks of 49 depths and 16 variances by default, with and without LayerNorm; 1000 at
    other angles, and with sigmoids. Nothing is trained, and no data are needed.
    """
    set_threads(threads)
    from farfield.studies import dispersion as study

    settings = study.Settings(**scale(study.QUICK if quick else {}, draws=draws))
    folder = out or RUNS / "dispersion"
    finish(
        study.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True),
        folder,
    )
