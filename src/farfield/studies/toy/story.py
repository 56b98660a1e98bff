"""The report of the toy study: tables, answer and figure."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.shared.claims import claims_table
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.story import Figure, Story, Table
from farfield.studies.shared.variants import NORM_NAMES
from farfield.studies.toy import figures
from farfield.studies.toy.claims import SETTLED, theory_table

if TYPE_CHECKING:
    from farfield.studies.toy.study import Result


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: What the study measured.

    Returns:
        Question, answer, tables and figure.
    """
    settings = result.settings
    norm, far = NORM_NAMES[settings.norm], settings.far
    low, high = settings.interval
    return Story(
        title=f"How networks leave their training interval ({settings.activation}, {norm})",
        question=(
            f"Networks learn a function between {low:g} and {high:g}. What do they say at "
            f"{far:g}, and does one {norm} keep the answer within bounds?"
        ),
        answer=_answer(result),
        tables=(
            Table(
                f"Size of the prediction at x = {far:g}, |f({far:g})|: mean and 95 % confidence "
                f"interval over {settings.seeds} seeds.",
                result.summary().rename_axis(index="target function", columns=None),
            ),
            Table(
                f"Change of the prediction from |x| = {far / 2:g} to {far:g} (the larger of both "
                "ends), in units of the range of the training targets, median over seeds: 0 is a "
                f"prediction that has settled, {far / 2 / (high - low):.2g} one that goes on like "
                "a line through the training interval.",
                result.growth()
                .map(lambda value: f"{value:.2f}")
                .rename_axis(index="target function", columns=None),
            ),
            *_theory_tables(result),
        ),
        figures=(
            Figure(
                "predictions",
                f"Predictions from {-far:g} to {far:g} (mean over {settings.seeds} seeds; bands "
                "are 95 % confidence intervals of the mean). Grey: the training interval; black "
                "dots: the training points. Top: full range; bottom: the same, cut to the range "
                "of the networks with the norm.",
                functools.partial(
                    figures.predictions,
                    frame=result.predictions,
                    compared=result.compared(),
                    interval=settings.interval,
                    training_points=result.training_points(),
                ),
                size=(10.0, 6.0),
            ),
            *_theory_figures(result),
        ),
        remarks=_remarks(result),
        notes=(
            f"Functions: sin(x), x and x squared on {settings.points} evenly spaced points from "
            f"{low:g} to {high:g}, noise of standard deviation {settings.noise_std:g}. The paper "
            "does not state the interval, the noise, the functions' scales or the plotted range.",
            f"{settings.epochs} steps of Adam at {settings.learning_rate:g} on the full batch, "
            f"hidden widths {', '.join(map(str, settings.hidden))}; predictions in evaluation "
            "mode.",
            "Published: only as a figure, without numbers to compare with.",
        ),
        source=(
            "Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable Extrapolation "
            "(NeurIPS 2025), section 4.1, Figures 1, 5 and 6."
        ),
        rerun=f"farfield.studies.toy.run(farfield.studies.toy.{settings!r})",
    )


def _theory_tables(result: Result) -> tuple[Table, ...]:
    claims = claims_table(result.claims(), "The paper's claims.")
    if result.theory.empty:
        return (claims,)
    constants = theory_table(result)
    labels = {variant.key: variant.label for variant in result.compared()}
    far = result.predictions["x"].max()
    at_far = result.metrics.assign(size=result.metrics["at_far"].abs())
    sizes = at_far.groupby(["function", "variant"], sort=False)["size"]
    rows = {}
    for name, key in constants.index:
        own = constants.loc[(name, key)].to_dict()
        rows[f"{name}, {labels[key]}"] = {
            f"trained: |f({far:g})|": str(mean(sizes.get_group((name, key)))),
            "trained: largest found": _number(own.get("largest_found")),
            "trained: proven bound": _number(own.get("proven")),
            "infinite width: limit at -infinity": _number(own.get("limit_left")),
            "infinite width: limit at infinity": _number(own.get("limit_right")),
            "infinite width: bound": _number(own.get("certificate")),
        }
    numbers = Table(
        "What theory says. Trained: proven bound of the first "
        f"{result.settings.certified} of {result.settings.seeds} networks over every input, and "
        "the largest output that a search found. Infinite width: the exact prediction's limits and "
        "the bound of theorem 3.3 in its sharpest form. 'none': it grows, or nothing bounds it.",
        pd.DataFrame(rows).T.rename_axis("function, network"),
    )
    return numbers, claims


def _number(value: float | None) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{value:.3g}" if abs(value) < float("inf") else "none"


def _theory_figures(result: Result) -> tuple[Figure, ...]:
    if result.theory.empty:
        return ()
    end = result.theory["x"].max()
    return (
        Figure(
            "theory",
            f"The same networks from {-end:g} to {end:g}, ten times the training interval (grey), "
            "with what theory says. Coloured: trained networks, mean and 95 % confidence interval; "
            "black, dashed: the exact prediction of infinite width; dotted at the sides: its "
            "limits; blue-grey band: its bound over every input (theorem 3.3); thick lines at top "
            "and bottom: the proven bound of the trained network. The vertical axis is linear up "
            "to twice the largest target and logarithmic beyond.",
            functools.partial(
                figures.theory,
                frame=result.theory,
                constants=theory_table(result),
                compared=result.compared(),
                interval=result.settings.interval,
                training_points=result.training_points(),
            ),
            size=(11.0, 7.5),
        ),
    )


def _remarks(result: Result) -> tuple[str, ...]:
    if result.theory.empty:
        return ()
    constants = theory_table(result)
    if "certificate" not in constants:
        return (f"{NORM_NAMES[result.settings.norm]} has no infinite-width limit.",)
    ridges = constants["ridge"]
    if (ridges == 0).all():
        return ()
    return (
        f"{int((ridges > 0).sum())} of {len(ridges)} exact kernel matrices are singular in float64 "
        f"(points on a line); {result.settings.ridge:g} was added to their diagonals.",
    )


def _answer(result: Result) -> str:
    """The verdict in a sentence or two, from the change far away and from |f(far)|."""
    settings = result.settings
    norm, far = NORM_NAMES[settings.norm], settings.far
    growth = result.growth()
    standard, normed = growth["Standard"], growth.drop(columns="Standard")
    still = int((normed.max(axis=1) < SETTLED * standard).sum())
    if still == len(normed):
        verdict = f"Yes: one {norm} stops the growth"
    elif still == 0:
        verdict = f"No: {norm} does not prevent the growth"
    else:
        verdict = f"In part: {norm} stops the growth for {still} of {len(normed)} functions"
    size = result.metrics.assign(size=result.metrics["at_far"].abs())
    means = size.groupby(["function", "variant"], sort=False)["size"].mean().unstack()
    own, largest = means["standard"], means.drop(columns="standard").max(axis=1)
    parts = [
        f"{name} {mean_size:.3g} / {largest[name]:.3g}"
        for name, mean_size in zip(result.training_points(), own, strict=True)
    ]
    return (
        f"{verdict}. From |x| = {far / 2:g} to {far:g} the standard network's prediction changes "
        f"by {standard.min():.2f} to {standard.max():.2f} times the range of the training "
        f"targets, that of the networks with {norm} by {normed.to_numpy().min():.2f} to "
        f"{normed.to_numpy().max():.2f} times. Mean |f({far:g})|, standard network / largest with "
        f"{norm}: {', '.join(parts)}."
    )
