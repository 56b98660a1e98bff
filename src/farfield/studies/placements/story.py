"""The report of the placement study: conclusion, tables and figures."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from farfield.data import ABALONE, PROTEIN
from farfield.studies.placements import figures
from farfield.studies.placements.analysis import Difference, compared, effects, ranks, ratio, trends
from farfield.studies.placements.conclusion import conclusion, findings
from farfield.studies.placements.designs import FACTORS, LADDER, Design
from farfield.studies.shared.claims import claims_table
from farfield.studies.shared.statistics import Interval, bootstrap
from farfield.studies.shared.story import Figure, Story, Table

if TYPE_CHECKING:
    from farfield.studies.placements.study import Result

PLACES = {"none": "no norm", "first": "LayerNorm first", "every": "LayerNorm every"}
_ERRORS = (
    "errors are root mean squares in standard deviations of the targets there, 1 is the error of a "
    "constant"
)


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: What the study measured.

    Returns:
        Question, answer, tables and figures.
    """
    settings = result.settings
    base = settings.crossing()[0]
    size = f"{settings.depth} hidden layers of {settings.width} units"
    return Story(
        title="Which norm, where? More norms and placements than the paper",
        question=(
            "LayerNorm or RMSNorm, before or after the activation, with or without a gain, at the "
            "first, the last or every hidden layer, how deep, how wide: which choice extrapolates "
            f"best on {_listed(settings.tasks)}?"
        ),
        answer=conclusion(result),
        tables=(
            *_effects(result),
            _choices(result),
            _sizes(result),
            *_ladders(result),
            claims_table(result.claims(), "The paper's claims."),
        ),
        figures=_figures(result),
        remarks=(*findings(result), *_remarks(result)),
        notes=(
            f"The base is {base.label}, {size}. A full crossing of all choices would take hundreds "
            "of designs, so norm, place, order and gain are crossed at that size; "
            f"depth ({_numbers(settings.depths)}) and width ({_numbers(settings.widths)}) "
            "vary one at a time, for the network without norm and LayerNorm first and every. That "
            "depth or width changes what another choice does, this study cannot show.",
            f"Functions: {settings.points} points from {settings.interval[0]:g} to "
            f"{settings.interval[1]:g}, {settings.toy_epochs} steps of Adam on all of them; in "
            f"domain: the points between; out of domain: beyond, up to {settings.far:g} at both "
            f"sides. Tables: at most {settings.table_rows} random rows of the training part, "
            f"{settings.table_epochs} epochs in batches of {settings.batch_size}, inputs and "
            "target standardised; in domain: the tenth held back; out of domain: proteins with F1 "
            "of 20,000 and above, infant abalone.",
            f"Every network: {settings.activation}, Adam at {settings.learning_rate:g}, weights "
            f"N(0, {settings.weight_var:g} / fan_in), biases N(0, {settings.bias_var:g}). Nothing "
            "was tuned for any of them: a choice that needs another step size is not given it.",
            "Rank: designs are ordered by their error out of domain, task by task and seed by "
            "seed, among those of the same table; 1 is best. In brackets: 95 % intervals over "
            f"{settings.seeds} seeds; of mean ranks by the bootstrap (expanded percentiles, "
            "Hesterberg 2015), of differences and ratios by Student's t, of ratios on the "
            "logarithm.",
            "'better' and 'worse': the interval of the paired difference excludes 0, and so does "
            "Holm's p-value, adjusted for all comparisons of the table, at 5 %. 'taken alone': the "
            "interval excludes 0, but among so many comparisons that may be chance.",
            "The intervals speak of other seeds, not of other tasks; and all train equally long, "
            "so that what fits faster may also look better out of domain: errors in domain stand "
            "beside.",
        ),
        source=(
            "The question of Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable "
            "Extrapolation (NeurIPS 2025), section 4, with choices that the paper leaves out. "
            f"Data: {PROTEIN.citation}; {ABALONE.citation}."
        ),
        rerun=f"farfield.studies.placements.run(farfield.studies.placements.{settings!r})",
    )


def _effects(result: Result) -> tuple[Table, Table]:
    designs, metrics = result.settings.crossing(), result.metrics
    found = effects(metrics, designs)
    told = {
        label: {
            "change of mean rank": str(effect.value),
            "p (Holm)": f"{effect.p:.2g}",
            "verdict": effect.verdict,
        }
        for label, effect in found.items()
    }
    ratios = {
        factor.label: {
            task: str(ratio(metrics, "error_out", task, factor.pairs(designs)))
            for task in result.settings.tasks
        }
        for factor in FACTORS
    }
    return (
        Table(
            "What each choice changes out of domain, averaged over all choices of the rest: the "
            f"mean rank among {len(designs) - 1} norms; below 0 is better.",
            pd.DataFrame(told).T.rename_axis("choice"),
        ),
        Table(
            "By how much: the error out of domain divided by that with the base's choice; below 1 "
            "is better.",
            pd.DataFrame(ratios).T.rename_axis("choice"),
        ),
    )


def _choices(result: Result) -> Table:
    designs = result.settings.crossing()
    values = ranks(result.metrics, designs)
    differences = compared(values, designs[0])
    order = sorted(designs, key=lambda design: float(values[design.key].mean()))
    rows = {
        design.label: _row(result, design, values, differences.get(design.key)) for design in order
    }
    return Table(
        f"Every combination at {result.settings.depth} hidden layers of {result.settings.width}, "
        f"best first: mean rank over tasks, paired difference to the base ({designs[0].label}), "
        f"and the mean error out of domain (in domain in parentheses); {_ERRORS}.",
        pd.DataFrame(rows).T.rename_axis("norm"),
    )


def _row(
    result: Result, design: Design, values: pd.DataFrame, difference: Difference | None
) -> dict[str, str]:
    row = {
        "mean rank": str(bootstrap(values[design.key])),
        "less the base's": "base" if difference is None else str(difference.value),
        "p (Holm)": "" if difference is None else f"{difference.p:.2g}",
        "verdict": "" if difference is None else difference.verdict,
    }
    return {**row, **_task_errors(result, design)}


def _task_errors(result: Result, design: Design) -> dict[str, str]:
    own = result.metrics[result.metrics["design"] == design.key].groupby("task")
    means = own[["error_out", "error_in"]].mean()
    return {
        task: f"{means['error_out'][task]:.3g} ({means['error_in'][task]:.2g})"
        for task in result.settings.tasks
    }


def _sizes(result: Result) -> Table:
    designs = result.settings.crossing()
    names = [design.label for design in designs]
    columns = {}
    for task in result.settings.tasks:
        own = result.metrics[result.metrics["task"] == task].groupby("design")
        out, farther = own["largest_out"].median(), own["largest_farther"].median()
        columns[task] = [f"{out[one.key]:.3g} / {farther[one.key]:.3g}" for one in designs]
    return Table(
        "Largest |prediction| out of domain / ten times further away, in standard deviations of "
        "the training targets, median over seeds.",
        pd.DataFrame(columns, index=pd.Index(names, name="norm")),
    )


def _ladders(result: Result) -> tuple[Table, ...]:
    settings = result.settings
    tables = []
    for what, unit, rungs, sizes, slopes in (
        (
            "hidden layers",
            "hidden layer",
            settings.depth_ladder(),
            settings.depths,
            settings.depths,
        ),
        ("units", "width", settings.width_ladder(), settings.widths, range(len(settings.widths))),
    ):
        values = ranks(result.metrics, [one for own in rungs.values() for one in own])
        rows = {}
        for place in LADDER:
            for number, design in zip(sizes, rungs[place], strict=True):
                rows[f"{PLACES[place]}, {number}"] = {
                    "mean rank": str(bootstrap(values[design.key])),
                    **_task_errors(result, design),
                }
        found = trends(result.metrics, rungs, [float(size) for size in slopes])
        told = "; ".join(
            f"{PLACES[place]} {one.value}, {one.verdict}" for place, one in found.items()
        )
        tables.append(
            Table(
                f"By number of {what}: mean rank among these designs, error out of domain (in "
                f"domain). Change of the mean rank for each next {unit}: {told}.",
                pd.DataFrame(rows).T.rename_axis(f"norm, {what}"),
            )
        )
    return tuple(tables)


def _figures(result: Result) -> tuple[Figure, ...]:
    settings, metrics = result.settings, result.metrics
    designs = settings.crossing()
    values = ranks(metrics, designs)
    order = sorted(designs, key=lambda design: float(values[design.key].mean()))
    found = effects(metrics, designs)
    labels = {factor.label: factor.pairs(designs) for factor in FACTORS}
    ratios: dict[str, dict[str, tuple[Interval, Interval]]] = {
        task: {
            label: (
                ratio(metrics, "error_out", task, pairs),
                ratio(metrics, "error_in", task, pairs),
            )
            for label, pairs in labels.items()
        }
        for task in settings.tasks
    }
    return (
        Figure(
            "effects",
            "What each choice changes, averaged over all choices of the rest, with 95 % intervals "
            f"over {settings.seeds} seeds. Left: change of the mean rank over tasks, among "
            f"{len(designs) - 1} norms. Others: error divided by that of the base's choice, on a "
            "logarithmic axis; filled: out of domain, hollow: in domain. Left of the line is "
            "better.",
            functools.partial(figures.effects, found=found, ratios=ratios),
            size=(11.0, 4.2),
        ),
        Figure(
            "choices",
            "Mean rank over tasks of every combination, 1 is best, with 95 % bootstrap intervals "
            f"over {settings.seeds} seeds. Colour: the place; circles: LayerNorm, squares: "
            "RMSNorm; filled: with a gain, hollow: without.",
            functools.partial(figures.choices, values=values, designs=order),
            size=(7.2, 7.4),
        ),
        Figure(
            "choices-by-task",
            "Error out of domain of every combination on each task, in the order of the figure "
            "before: mean and 95 % interval over seeds; grey crosses: in domain. Vertical line: 1, "
            "the error of a constant. Intervals that would reach 0 are cut at a tenth of the mean.",
            functools.partial(
                figures.by_task, metrics=metrics, designs=order, tasks=settings.tasks
            ),
            size=(11.0, 7.4),
        ),
        *(
            Figure(
                name,
                f"Error by {title}: solid out of domain, mean and 95 % interval over seeds; "
                "dashed: in domain. Last panel: mean rank over tasks, with bootstrap intervals. "
                "Intervals of errors that would reach 0 are cut at a tenth of the mean.",
                functools.partial(
                    figures.ladder,
                    metrics=metrics,
                    rungs=rungs,
                    sizes=sizes,
                    labels=PLACES,
                    tasks=settings.tasks,
                    axis=title,
                ),
                size=(10.0, 6.2),
            )
            for name, title, rungs, sizes in (
                ("depth", "number of hidden layers", settings.depth_ladder(), settings.depths),
                ("width", "units of a hidden layer", settings.width_ladder(), settings.widths),
            )
        ),
    )


def _remarks(result: Result) -> tuple[str, ...]:
    """In what the settings are not the study's own."""
    own, defaults = result.settings, type(result.settings)()
    changed = [
        f"{name} {getattr(own, name)} (default: {getattr(defaults, name)})"
        for name in own.__dataclass_fields__
        if getattr(own, name) != getattr(defaults, name) and name != "device"
    ]
    return (f"Not the study's own settings: {', '.join(changed)}.",) if changed else ()


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
