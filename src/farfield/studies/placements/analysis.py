"""What the scores of the placement study show: ranks, paired differences, and how sure they are.

Seeds are the only source of chance here: the intervals speak of other seeds (weights, and splits
of the tables), and not of other tasks. All designs of a seed share its data, first weights and
batches, so they are compared pairwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from farfield.studies.placements.designs import FACTORS, Design, Factor
from farfield.studies.shared.statistics import Interval, Mean, holm, mean, paired_p

LEVEL = 0.05
"""Of Holm's adjusted p-values."""


@dataclass(frozen=True)
class Difference:
    """A paired difference of mean ranks over seeds; below 0 is better.

    Attributes:
        value: The difference with its interval.
        p: The p-value of no difference, adjusted for all those of its family by Holm.
    """

    value: Mean
    p: float

    @property
    def told_apart(self) -> bool:
        """Whether the interval excludes 0."""
        return bool(abs(self.value.value) > self.value.half_width)

    @property
    def shown(self) -> bool:
        """Whether it also stands among the others of its family."""
        return self.told_apart and self.p < LEVEL

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if np.isnan(self.value.half_width):
            return "one seed"
        if not self.told_apart:
            return "not told apart"
        word = "better" if self.value.value < 0 else "worse"
        return word if self.shown else f"{word} taken alone"


def ranks(metrics: pd.DataFrame, designs: Sequence[Design]) -> pd.DataFrame:
    """Ranks of designs by their error out of domain, mean over tasks; 1 is best.

    Args:
        metrics: Columns design, task, seed and error_out.
        designs: The designs that are ranked among themselves.

    Returns:
        A row for each seed, a column for each design; equal errors share their mean rank.
    """
    keys = list(dict.fromkeys(design.key for design in designs))
    own = metrics[metrics["design"].isin(keys)]
    ranked = own.assign(rank=own.groupby(["task", "seed"])["error_out"].rank())
    return ranked.groupby(["seed", "design"])["rank"].mean().unstack()[keys]


def compared(values: pd.DataFrame, base: Design) -> dict[str, Difference]:
    """Each design's mean rank less the base's, seed by seed.

    Args:
        values: What :func:`ranks` gives.
        base: The design to compare with.

    Returns:
        By key of the design, without the base.
    """
    own = values.drop(columns=base.key)
    return differences({str(key): own[key] - values[base.key] for key in own})


def differences(paired: Mapping[str, pd.Series | np.ndarray]) -> dict[str, Difference]:
    """A family of paired differences.

    Args:
        paired: For each name a difference for each seed.

    Returns:
        By name, with p-values adjusted for all of them.
    """
    adjusted = holm([paired_p(own) for own in paired.values()])
    return {
        name: Difference(mean(own), float(p))
        for (name, own), p in zip(paired.items(), adjusted, strict=True)
    }


def effects(metrics: pd.DataFrame, designs: Sequence[Design]) -> dict[str, Difference]:
    """What each factor changes in the mean rank among norms, averaged over all other choices.

    Args:
        metrics: Columns design, task, seed and error_out.
        designs: The full crossing.

    Returns:
        By label of the factor.
    """
    values = ranks(metrics, [design for design in designs if design.norm != "none"])
    found = {}
    for factor in FACTORS:
        pairs = factor.pairs(designs)
        found[factor.label] = sum(
            (values[one.key] - values[other.key] for one, other in pairs),
            start=pd.Series(0.0, values.index),
        ) / len(pairs)
    return differences(found)


def ratio(
    metrics: pd.DataFrame, score: str, task: str, pairs: Sequence[tuple[Design, Design]]
) -> Interval:
    """A score of some designs divided by that of others: the geometric mean over pairs and seeds.

    Args:
        metrics: Columns design, task, seed and the score.
        score: Its name.
        task: The task.
        pairs: The designs, and those whose score divides theirs.

    Returns:
        The ratio; its interval is Student's for the mean logarithm over seeds.
    """
    own = metrics[metrics["task"] == task]
    logs = np.log(own.pivot(index="seed", columns="design", values=score))
    paired = [(logs[one.key] - logs[other.key]).to_numpy() for one, other in pairs]
    found = mean(np.mean(paired, axis=0))
    low, high = found.value - found.half_width, found.value + found.half_width
    return Interval(*(float(np.exp(end)) for end in (found.value, low, high)))


def trends(
    metrics: pd.DataFrame, rungs: Mapping[str, Sequence[Design]], sizes: Sequence[float]
) -> dict[str, Difference]:
    """How much the mean rank changes along a ladder, by the slope of a line for each seed.

    Args:
        metrics: Columns design, task, seed and error_out.
        rungs: By place, the designs of all sizes; all are ranked among themselves.
        sizes: The size of each rung, in the units of the slope.

    Returns:
        By place.
    """
    values = ranks(metrics, [design for own in rungs.values() for design in own])
    centred = np.asarray(sizes) - np.mean(sizes)
    slopes = {
        place: values[[design.key for design in own]].to_numpy() @ centred / (centred @ centred)
        for place, own in rungs.items()
    }
    # Ranks are multiples of 1 / (2 tasks); what rounding adds to their slopes is no spread.
    return differences({place: own.round(9) for place, own in slopes.items()})


def advised(found: Mapping[str, Difference], designs: Sequence[Design]) -> Design:
    """The base with every factor changed that is shown to be better so.

    Args:
        found: What :func:`effects` gives.
        designs: The full crossing, the base first.

    Returns:
        One of the designs.
    """
    best: dict[str, tuple[float, Factor]] = {}
    for factor in FACTORS:
        effect = found[factor.label]
        gain = effect.value.value
        if effect.shown and gain < min(0.0, best.get(factor.field, (0.0, factor))[0]):
            best[factor.field] = (gain, factor)
    chosen = {field: factor.level for field, (_, factor) in best.items()}
    return next(
        design
        for design in designs
        if all(
            getattr(design, name) == chosen.get(name, getattr(designs[0], name))
            for name in ("norm", "place", "before", "gain")
        )
    )
