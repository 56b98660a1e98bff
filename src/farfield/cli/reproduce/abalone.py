"""Ages of infant abalone: a group shift on a table that anybody may have."""

from __future__ import annotations

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import (
    RUNS,
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


def abalone(
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
    """Ages of infant abalone, learned from grown ones (as Table 2).

    200 epochs and 10 seeds by default, about a minute.
    """
    set_threads(threads)
    from farfield.studies import abalone as study

    settings = study.Settings(
        device=device, **scale(study.QUICK if quick else {}, seeds=seeds, epochs=epochs)
    )
    folder = out or RUNS / "abalone"
    finish(
        study.run(
            settings, data=data, out=folder, resume=resume, overwrite=overwrite, progress=True
        ),
        folder,
    )
