"""`farfield list` and `farfield reproduce`: the published experiments."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

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
from farfield.studies.catalogue import CATALOGUE


def list_studies() -> None:
    """List the published experiments that `farfield reproduce` reruns."""
    table = Table("study", "shows", "reproduces", box=None, pad_edge=False)
    for entry in CATALOGUE:
        table.add_row(entry.name, entry.shows, entry.paper)
    Console().print(table)


def protein(
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
    """Proteins larger than any in training (Table 1 and Fig. 3).

    2500 epochs and 10 seeds by default; --quick takes about a minute or two.
    """
    set_threads(threads)
    from farfield.studies import protein as study

    settings = study.Settings(
        device=device, **scale(study.QUICK if quick else {}, seeds=seeds, epochs=epochs)
    )
    folder = out or RUNS / "protein"
    finish(
        study.run(
            settings, data=data, out=folder, resume=resume, overwrite=overwrite, progress=True
        ),
        folder,
    )


def toy(
    activation: Activation = "relu",
    norm: Annotated[
        str, typer.Option(help="layer (Figs. 1 and 5), batch (Fig. 6) or rms.")
    ] = "layer",
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
        device=device,
        **scale(study.QUICK if quick else {}, seeds=seeds, epochs=epochs),
    )
    folder = out or RUNS / f"toy-{activation}-{norm}"
    finish(
        study.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True), folder
    )
