"""`farfield regress`: predictions of an infinitely wide network, with a bound everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.arguments import set_threads
from farfield.cli.options import RUNS, Activation, Out, Overwrite, Threads
from farfield.cli.printing import finish


def regress(
    train: Annotated[Path, typer.Argument(help="Rows to learn from: CSV or Parquet, a header.")],
    new: Annotated[Path, typer.Argument(help="Rows to predict; with the target, they are scored.")],
    target: Annotated[str, typer.Option(help="The numeric column to predict.")],
    hidden: Annotated[int, typer.Option(help="Number of hidden layers.")] = 2,
    activation: Activation = "relu",
    norm: Annotated[
        str, typer.Option(help="Hidden layers with a LayerNorm: first, last, every or none.")
    ] = "first",
    ridge: Annotated[
        float | None,
        typer.Option(
            help="Strength of smoothing [default: the best of 1e-6 to 100, by leave-one-out].",
            show_default=False,
        ),
    ] = None,
    std: Annotated[
        str, typer.Option(help="Standard deviations: ensemble, posterior or none.")
    ] = "ensemble",
    kernel: Annotated[
        str, typer.Option(help="ntk: the trained network; nngp: the Bayesian one.")
    ] = "ntk",
    weight_var: Annotated[float, typer.Option(help="Weights are N(0, this / fan_in).")] = 2.0,
    bias_var: Annotated[float, typer.Option(help="Biases are N(0, this).")] = 0.01,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Column to leave out; may be repeated.", show_default=False),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(help="Train on so many random rows [default: all].", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
    out: Out = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict new rows with an infinitely wide network, and prove how large it can get.

    Exact: no training runs, no randomness. Writes predictions.csv (with standard deviations, 95 %
    intervals, what is outside the training ranges and by how much, and the limit on the ray
    through each row), limits.csv (where the prediction goes as a feature goes to infinity),
    certificate.json and a report. With LayerNorm the prediction has a proven bound; with
    --norm none it grows, and the report says how fast. n rows take n x n x 8 bytes.

    Example: farfield regress train.csv new.csv --target price --hidden 2 --norm first
    """
    set_threads(threads)
    from farfield.studies import regression

    settings = regression.Settings(
        target=target,
        hidden=hidden,
        activation=activation,
        norm=norm,
        kernel=kernel,
        ridge=ridge,
        std=std,
        ignore=tuple(ignore or ()),
        rows=rows,
        weight_var=weight_var,
        bias_var=bias_var,
        seed=seed,
    )
    folder = out or RUNS / f"regress-{new.stem}"
    finish(
        regression.run(train, new, settings, out=folder, overwrite=overwrite, progress=True), folder
    )
