"""`farfield extrapolate`: networks on the user's own table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.arguments import scale, set_threads, whole_numbers
from farfield.cli.options import (
    RUNS,
    Activation,
    Device,
    Out,
    Overwrite,
    Quick,
    Resume,
    Seeds,
    Threads,
)
from farfield.cli.printing import finish


def extrapolate(
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file with a header.")],
    target: Annotated[str, typer.Option(help="The numeric column to predict.")],
    split_column: Annotated[
        str | None,
        typer.Option(help="Numeric column that bounds the training domain.", show_default=False),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Train below this value of the split column.", show_default=False),
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(help="Instead: column that names groups; no feature.", show_default=False),
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(help="Group that is out of domain; may be repeated.", show_default=False),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Column to leave out; may be repeated.", show_default=False),
    ] = None,
    hidden: Annotated[str, typer.Option(help="Hidden widths, separated by commas.")] = "128,128",
    activation: Activation = "relu",
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data [default: 2500].", show_default=False)
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Adam's step size.")] = 1e-3,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows in a batch [default: all].", show_default=False)
    ] = None,
    xgboost: Annotated[bool, typer.Option(help="Compare with XGBoost.")] = True,
    quick: Quick = False,
    seeds: Seeds = None,
    out: Out = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Compare how networks with and without LayerNorm extrapolate on YOUR table.

    Trains the standard MLP, those with LayerNorm at the first, the last and every hidden layer,
    and XGBoost on 90 % of the rows of the training domain; scores all of them on the other 10 %
    and out of domain; says which to take and why. 2500 epochs and 5 seeds by default.

    Example: farfield extrapolate casp.csv --target RMSD --split-column F1 --threshold 20000
    """
    set_threads(threads)
    from farfield.studies import tabular

    settings = tabular.Settings(
        target=target,
        split_column=split_column,
        threshold=threshold,
        group_column=group_column,
        hold_out=tuple(hold_out or ()),
        ignore=tuple(ignore or ()),
        hidden=whole_numbers(hidden, "hidden widths", "128,128"),
        activation=activation,
        learning_rate=learning_rate,
        batch_size=batch_size,
        xgboost=xgboost,
        device=device,
        **scale(tabular.QUICK if quick else {}, seeds=seeds, epochs=epochs),
    )
    folder = out or RUNS / table.stem
    finish(
        tabular.run(table, settings, out=folder, resume=resume, overwrite=overwrite, progress=True),
        folder,
    )
