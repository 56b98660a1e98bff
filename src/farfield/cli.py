"""The command line: parse, call, print."""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from farfield import __version__
from farfield.errors import FarfieldError, SettingsError
from farfield.studies.catalogue import CATALOGUE

if TYPE_CHECKING:
    import pandas as pd

    from farfield.studies.story import Result

RUNS = Path("farfield-runs")

_INTERRUPTED = 130  # the shells' code for a command ended by Ctrl-C

# Click's class, which recent versions of typer carry in themselves under another name.
_UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    help="Tells how a neural network behaves far from its training data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
reproduce = typer.Typer(
    help="Rerun a published experiment; see `farfield list`.", no_args_is_help=True
)
app.add_typer(reproduce, name="reproduce")

Quick = Annotated[
    bool, typer.Option("--quick", help="A first look: few seeds and epochs, not the paper's scale.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        help="Networks of each kind [default: the study's].",
        show_default=False,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs", help="Passes over the data [default: the paper's].", show_default=False
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for the results [default: farfield-runs/NAME].",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder with the data file; else $FARFIELD_DATA, else a download to the cache.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps, ...")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="CPU threads [default: all cores].", show_default=False),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted run in the folder.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier run in the folder.")
]
Activation = Annotated[str, typer.Option("--activation", help="relu, gelu, silu, tanh, elu, ...")]


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"farfield {__version__}")
        raise typer.Exit


@app.command("list")
def list_studies() -> None:
    """List the published experiments that `farfield reproduce` reruns."""
    table = Table("study", "shows", "reproduces", box=None, pad_edge=False)
    for entry in CATALOGUE:
        table.add_row(entry.name, entry.shows, entry.paper)
    Console().print(table)


@app.command()
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
    _set_threads(threads)
    from farfield.studies import tabular

    settings = tabular.Settings(
        target=target,
        split_column=split_column,
        threshold=threshold,
        group_column=group_column,
        hold_out=tuple(hold_out or ()),
        ignore=tuple(ignore or ()),
        hidden=_widths(hidden),
        activation=activation,
        learning_rate=learning_rate,
        batch_size=batch_size,
        xgboost=xgboost,
        device=device,
        **_scale(tabular.QUICK if quick else {}, seeds=seeds, epochs=epochs),
    )
    folder = out or RUNS / table.stem
    _finish(
        tabular.run(table, settings, out=folder, resume=resume, overwrite=overwrite, progress=True),
        folder,
    )


@app.command()
def certify(
    model: Annotated[
        str,
        typer.Argument(help="my_model.py:build, a function without arguments that makes it."),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A .safetensors file, or a state dict from torch.save; nothing in it is run.",
            show_default=False,
        ),
    ] = None,
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
    _set_threads(threads)
    from farfield.studies import certificate

    settings = certificate.Settings(
        model=model,
        weights=None if weights is None else str(weights),
        input_shape=None if input_shape is None else _sizes(input_shape),
        box=box,
    )
    folder = out or RUNS / f"certificate-{Path(model.rpartition(':')[0]).stem}"
    _finish(certificate.run(settings, out=folder, overwrite=overwrite), folder)


@reproduce.command("protein")
def reproduce_protein(
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
    _set_threads(threads)
    from farfield.studies import protein

    settings = protein.Settings(
        device=device, **_scale(protein.QUICK if quick else {}, seeds=seeds, epochs=epochs)
    )
    folder = out or RUNS / "protein"
    _finish(
        protein.run(
            settings, data=data, out=folder, resume=resume, overwrite=overwrite, progress=True
        ),
        folder,
    )


@reproduce.command("toy")
def reproduce_toy(
    activation: Activation = "relu",
    norm: Annotated[
        str, typer.Option(help="layer (Figs. 1 and 5), batch (Fig. 6) or rms.")
    ] = "layer",
    overlays: Annotated[
        bool, typer.Option(help="Also compute what theory says, and certify trained networks.")
    ] = True,
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
    _set_threads(threads)
    from farfield.studies import toy

    settings = toy.Settings(
        activation=activation,
        norm=norm,
        overlays=overlays,
        device=device,
        **_scale(toy.QUICK if quick else {}, seeds=seeds, epochs=epochs),
    )
    folder = out or RUNS / f"toy-{activation}-{norm}"
    _finish(
        toy.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True), folder
    )


@reproduce.command("heatmaps")
def reproduce_heatmaps(
    quick: Quick = False,
    seeds: Seeds = None,
    out: Out = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Tangent kernels of random networks beside the exact ones (Fig. 2).

    5 seeds by default. Nothing is trained, and no data are needed.
    """
    _set_threads(threads)
    from farfield.studies import heatmaps

    settings = heatmaps.Settings(**_scale(heatmaps.QUICK if quick else {}, seeds=seeds))
    folder = out or RUNS / "heatmaps"
    _finish(
        heatmaps.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True),
        folder,
    )


@reproduce.command("theorems")
def reproduce_theorems(
    quick: Quick = False,
    out: Out = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Each theorem in numbers: published, ours, agree or not (sections 3 and C).

    No data are needed.
    """
    _set_threads(threads)
    from farfield.studies import theorems

    settings = theorems.Settings(**_scale(theorems.QUICK if quick else {}))
    folder = out or RUNS / "theorems"
    _finish(
        theorems.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True),
        folder,
    )


@reproduce.command("paper")
def reproduce_paper(
    quick: Quick = False,
    out: Out = None,
    data: Data = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """All studies of the LayerNorm paper, and one table of its claims, published and found.

    Each study gets a folder and a page of its own.
    """
    _set_threads(threads)
    from farfield.report import write_report
    from farfield.studies import paper

    folder = out or RUNS / "paper"
    result = paper.run(
        folder,
        paper.Settings(quick),
        data=data,
        resume=resume,
        overwrite=overwrite,
        progress=True,
    )
    for name, study in result.studies.items():
        write_report(study, folder / name, _command())
    _finish(result, folder)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("farfield-demo"),
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """A first look without downloads: the toy study and the diabetes table, in one report."""
    _set_threads(threads)
    from farfield.report import write_page, write_report
    from farfield.studies import demo as study

    results: tuple[Result, ...] = study.run(out, resume=resume, overwrite=overwrite, progress=True)
    for result, name in zip(results, ("toy", "diabetes"), strict=True):
        write_report(result, out / name, _command())
    page = write_page(
        [(result, _command()) for result in results], out, "How networks extrapolate: a first look"
    )
    for result in results:
        _print_result(result)
    _print_path(page)


def main() -> NoReturn:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    try:
        code = app(prog_name="farfield", standalone_mode=False)
    except FarfieldError as error:
        _fail(str(error))
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        _fail(_usage(error))
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    if code == _INTERRUPTED:  # recent versions of typer turn Ctrl-C into this code themselves
        kept = "Stopped; what was finished is kept. Go on with:"
        print(f"\n{kept} {_command()} --resume", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    print(f"farfield: {message}", file=sys.stderr)
    sys.exit(2)


def _usage(error: Any) -> str:
    """A usage error as one sentence that says what to do."""
    message = error.format_message()
    where = error.ctx.command_path if error.ctx is not None else "farfield"
    if message.startswith("No such command") and where.endswith("reproduce"):
        studies = ", ".join(entry.name for entry in CATALOGUE)
        message = f"{message.replace('command', 'study')} The studies are {studies}."
    return f"{message.rstrip('.')}. See `{where} --help`."


def _command() -> str:
    """The command as given, but for what to do with an earlier run."""
    given = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    return shlex.join(["farfield", *given])


def _set_threads(threads: int | None) -> None:
    if threads is None:
        return
    cores = os.cpu_count() or 1
    if not 1 <= threads <= cores:
        raise SettingsError(
            f"threads is {threads}; it must be at least 1 and at most {cores}, the cores here."
        )
    import torch

    torch.set_num_threads(threads)


def _scale(quick: Mapping[str, object], **given: int | None) -> dict[str, Any]:
    """The settings of scale: what the user gave goes before those of a quick look."""
    return {**quick, **{name: value for name, value in given.items() if value is not None}}


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(
            f"The hidden widths {text!r} are not whole numbers separated by commas, such as "
            "128,128."
        ) from error


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(
            f"The input shape {text!r} is not whole numbers separated by commas, such as 3,32,32."
        ) from error


def _finish(result: Result, folder: Path) -> None:
    """Write the report and print what a reader wants to know first."""
    from farfield.report import write_report

    page = write_report(result, folder, _command())
    _print_result(result)
    _print_path(page)


def _print_result(result: Result) -> None:
    console = Console()
    story = result.story()
    console.print()
    console.print(story.title, style="bold", markup=False)
    _print_frame(console, story.tables[0].frame, prose=story.tables[0].prose)
    console.print(story.answer, markup=False, highlight=False)
    for note in story.remarks:
        console.print(f"- {note}", markup=False, highlight=False)


def _print_frame(console: Console, frame: pd.DataFrame, prose: bool) -> None:
    named = frame.reset_index()
    table = Table(box=None, pad_edge=False)
    for column in named.columns:  # headers in lines, so that numbers are not broken
        header = "\n".join(textwrap.wrap(str(column), 12))
        table.add_column(header, no_wrap=not prose, vertical="top" if prose else "bottom")
    for row in named.itertuples(index=False):
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


def _print_path(page: Path) -> None:
    # Not through rich, which would break a long path into lines.
    print(f"\nReport: {page.resolve()}")
