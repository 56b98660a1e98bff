"""What a practitioner can take from the placement study, in sentences made of its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from farfield.studies.placement_analysis import (
    Difference,
    advised,
    compared,
    effects,
    ranks,
    ratio,
    trends,
)
from farfield.studies.placement_claims import growth
from farfield.studies.placement_designs import FACTORS, Design
from farfield.studies.statistics import Interval, bootstrap

if TYPE_CHECKING:
    from farfield.studies.placements import Result

_NAMES = {
    "none": "without norm",
    "first": "with LayerNorm first",
    "every": "with LayerNorm every",
}


def conclusion(result: Result) -> str:
    """Which choice to take, what is shown to matter, and where none of it helps.

    Args:
        result: What was measured.

    Returns:
        A paragraph.
    """
    designs = result.settings.crossing()
    found = effects(result.metrics, designs)
    chosen = advised(found, designs)
    return " ".join(
        [
            _advice(result, chosen, found),
            *_factors(found),
            _against_none(result, chosen),
            _best(result, chosen),
            _sizes(result),
        ]
    )


def _advice(result: Result, chosen: Design, found: Mapping[str, Difference]) -> str:
    base = result.settings.crossing()[0]
    if result.settings.seeds < 2:
        return "With a single seed nothing can be told from chance."
    if chosen == base:
        return f"Take {base.label}: no other choice of a norm is shown to be better over all tasks."
    changed = [factor for factor in FACTORS if getattr(chosen, factor.field) == factor.level]
    gains = ", ".join(f"{one.label} {found[one.label].value} ranks" for one in changed)
    return f"Take {chosen.label}: averaged over all choices of the rest, {gains}."


def _factors(found: Mapping[str, Difference]) -> list[str]:
    """What is shown to be worse, and what is not shown to matter."""
    worse = [f"{label} ({one.value})" for label, one in found.items() if one.shown and _worse(one)]
    open_ = [f"{label} ({one.value})" for label, one in found.items() if not one.shown]
    sentences = []
    if worse:
        sentences.append(f"Shown to be worse in mean rank: {', '.join(worse)}.")
    if open_:
        sentences.append(f"Not shown to matter: {', '.join(open_)}.")
    return sentences


def _worse(difference: Difference) -> bool:
    return difference.value.value > 0


def _against_none(result: Result, chosen: Design) -> str:
    """The advised norm beside no norm, task by task, and far away."""
    without = result.settings.crossing()[-1]
    kinds: dict[str, list[str]] = {"smaller": [], "larger": [], "not told apart": []}
    for task in result.settings.tasks:
        own = ratio(result.metrics, "error_out", task, [(chosen, without)])
        kinds[_side(own)].append(f"{task} ({own})")
    grown = growth(result)
    parts = [f"{kind} on {', '.join(tasks)}" for kind, tasks in kinds.items() if tasks]
    sentence = (
        f"Its error out of domain, divided by that without norm, is {'; '.join(parts)}. Ten times "
        f"further away the largest prediction is {grown[chosen.key]:.3g} times as large at most, "
        f"without norm {grown[without.key]:.3g} times"
    )
    if kinds["larger"]:
        return (
            f"{sentence}: a norm bounds the prediction, which helps unless the truth itself goes "
            "on growing as the network without norm does."
        )
    return f"{sentence}."


def _side(own: Interval) -> str:
    if own.high < 1.0:
        return "smaller"
    return "larger" if own.low > 1.0 else "not told apart"


def _best(result: Result, chosen: Design) -> str:
    """The design of lowest mean rank, and how many cannot be told apart from it."""
    designs = result.settings.crossing()
    values = ranks(result.metrics, designs)
    best = min(designs, key=lambda design: float(values[design.key].mean()))
    apart = compared(values, best)
    alike = sum(not one.shown for one in apart.values())
    own = "It has" if best == chosen else f"{best.label[0].upper()}{best.label[1:]} has"
    return (
        f"{own} the lowest mean rank of the {len(designs)} combinations, "
        f"{bootstrap(values[best.key])} (the network without norm: "
        f"{bootstrap(values[designs[-1].key])}); {alike} of the other {len(apart)} cannot be told "
        "apart from it after Holm's correction."
    )


def _sizes(result: Result) -> str:
    """What more layers and wider ones change."""
    settings, sentences = result.settings, []
    doublings = [float(i) for i in range(len(settings.widths))]
    for what, rungs, sizes in (
        ("Each further hidden layer", settings.depth_ladder(), [float(d) for d in settings.depths]),
        ("each next width", settings.width_ladder(), doublings),
    ):
        found = trends(result.metrics, rungs, sizes)
        parts = [
            f"{_NAMES[place]} {one.value}{'' if one.shown else ' (not shown)'}"
            for place, one in found.items()
        ]
        sentences.append(f"{what} changes the mean rank {', '.join(parts)}")
    return f"{'; '.join(sentences)}."
