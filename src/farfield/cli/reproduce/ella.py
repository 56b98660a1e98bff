"""How sure is it out there: linearised Laplace posteriors, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import RUNS, Data, Out, Overwrite, Quick, Resume, Seeds, Threads
from farfield.cli.printing import finish


def ella(
    fashion: Annotated[
        Path | None,
        typer.Option(
            help="Folder of Fashion-MNIST [default: that of Debian's dataset-fashion-mnist].",
            show_default=False,
        ),
    ] = None,
    quick: Quick = False,
    seeds: Seeds = None,
    out: Out = None,
    data: Data = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Uncertainty of trained networks: ELLA, exact, and laplace-torch's (Deng et al. 2022).

    A convolutional network on Fashion-MNIST and an MLP on proteins, 5 seeds by default; --quick
    takes scikit-learn's digits.
    """
    set_threads(threads)
    from farfield.data.fashion import FASHION_FOLDER
    from farfield.studies import ella as study

    settings = study.Settings(**scale(study.QUICK if quick else {}, seeds=seeds))
    folder = out or RUNS / "ella"
    finish(
        study.run(
            settings,
            data=data,
            fashion=fashion or FASHION_FOLDER,
            out=folder,
            resume=resume,
            overwrite=overwrite,
            progress=True,
        ),
        folder,
    )
