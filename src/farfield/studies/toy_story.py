"""The report of the toy study: tables, answer and figure."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from farfield.studies import toy_figures
from farfield.studies.story import Figure, Story, Table
from farfield.studies.variants import NORM_NAMES

if TYPE_CHECKING:
    from farfield.studies.toy import Result

# A norm is said to stop the growth if, while the distance doubles, the predictions of all networks
# with it change less than this part of the standard network's change.
_SETTLED = 0.1


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
        ),
        figures=(
            Figure(
                "predictions",
                f"Predictions from {-far:g} to {far:g} (mean over {settings.seeds} seeds; bands "
                "are 95 % confidence intervals of the mean). Grey: the training interval; black "
                "dots: the training points. Top: full range; bottom: the same, cut to the range "
                "of the networks with the norm.",
                functools.partial(
                    toy_figures.predictions,
                    frame=result.predictions,
                    compared=result.compared(),
                    interval=settings.interval,
                    training_points=result.training_points(),
                ),
                size=(10.0, 6.0),
            ),
        ),
        remarks=(),
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


def _answer(result: Result) -> str:
    """The verdict in a sentence or two, from the change far away and from |f(far)|."""
    settings = result.settings
    norm, far = NORM_NAMES[settings.norm], settings.far
    growth = result.growth()
    standard, normed = growth["Standard"], growth.drop(columns="Standard")
    still = int((normed.max(axis=1) < _SETTLED * standard).sum())
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
