"""`farfield certify`: a bound of the user's own network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.arguments import set_threads, whole_numbers
from farfield.cli.options import MODEL, RUNS, Out, Overwrite, Threads, Weights
from farfield.cli.printing import finish


def certify(
    model: Annotated[str, typer.Argument(help=MODEL)],
    weights: Weights = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of one input, such as 3,32,32 [default: told by the first layer].",
            show_default=False,
        ),
    ] = None,
    box: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Only inputs with all entries between two numbers.", show_default=False),
    ] = None,
    out: Out = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Prove how large YOUR trained network's output can get, over every input.

    The file with the model runs, as it is your own; the file with the weights cannot. Prints the
    verdict, the proven bound, the reason, and the worst input that a search found; saves them
    as certificate.json and as a report.

    Example: farfield certify my_model.py:build --weights weights.safetensors
    """
    set_threads(threads)
    from farfield.studies import certificate

    settings = certificate.Settings(
        model=model,
        weights=None if weights is None else str(weights),
        input_shape=None
        if input_shape is None
        else whole_numbers(input_shape, "input shape", "3,32,32"),
        box=box,
    )
    folder = out or RUNS / f"certificate-{Path(model.rpartition(':')[0]).stem}"
    finish(certificate.run(settings, out=folder, overwrite=overwrite), folder)
