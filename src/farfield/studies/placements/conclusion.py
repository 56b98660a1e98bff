"""What a practitioner can take from the placement study, in sentences made of its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from farfield.studies.placements.analysis import (
    Difference,
    advised,
    compared,
    effects,
    ranks,
    ratio,
    trends,
)
from farfield.studies.placements.claims import growth
from farfield.studies.placements.designs import FACTORS, Design
from farfield.studies.shared.statistics import Interval, bootstrap

if TYPE_CHECKING:
    from farfield.studies.placements.study import Result

_NAMES = {
    "none": "without norm",
    "first": "with LayerNorm first",
    "every": "with LayerNorm every",
}


_ALONE = "With a single seed nothing can be told from chance."


def conclusion(result: Result) -> str:
    """Which norm to take, where it helps, and how much the choice of it matters.

    Args:
        result: What was measured.

    Returns:
        Three sentences.
    """
    if result.settings.seeds < 2:
        return _ALONE
    chosen, without = _advised(result), result.settings.crossing()[-1]
    grown = growth(result)
    return (
        f"{_recommendation(result)} Ten times further away the largest prediction is at most "
        f"{grown[chosen.key]:.3g} times as large with {chosen.label}, without a norm "
        f"{grown[without.key]:.3g} times. {_matter(result)}"
    )


def findings(result: Result) -> tuple[str, ...]:
    """The numbers behind the conclusion.

    Args:
        result: What was measured.

    Returns:
        Sentences, none if there is a single seed.
    """
    if result.settings.seeds < 2:
        return ()
    designs = result.settings.crossing()
    chosen, found = _advised(result), effects(result.metrics, designs)
    return (
        f"Error out of domain with {chosen.label}, divided by that without a norm: "
        f"{'; '.join(f'{task} {own}' for task, own in _against_none(result).items())}.",
        " ".join([_advice(chosen, designs[0], found), *_factors(found)]),
        _best(result),
        _sizes(result),
    )


def _advised(result: Result) -> Design:
    designs = result.settings.crossing()
    return advised(effects(result.metrics, designs), designs)


def _against_none(result: Result) -> dict[str, Interval]:
    """The error of the advised norm divided by that of none, task by task."""
    pair = (_advised(result), result.settings.crossing()[-1])
    return {
        task: ratio(result.metrics, "error_out", task, [pair]) for task in result.settings.tasks
    }


def _recommendation(result: Result) -> str:
    chosen = _advised(result).label
    kinds: dict[str, list[str]] = {"smaller": [], "larger": [], "not told apart": []}
    for task, own in _against_none(result).items():
        kinds[_side(own)].append(task)
    if kinds["smaller"] and kinds["larger"]:
        advice = (
            f"Take a norm ({chosen}) where predictions must not run away, and none where the truth "
            "is known to go on growing as the network without one does"
        )
    elif kinds["larger"]:
        advice = f"A norm ({chosen}) bounds predictions here at the price of a larger error"
    elif kinds["smaller"]:
        advice = f"Take a norm ({chosen}): its error is nowhere shown to be larger"
    else:
        advice = (
            f"Take a norm ({chosen}) for its bound; its error is not told apart from that without"
        )
    parts = [f"{kind} on {_listed(tasks)}" for kind, tasks in kinds.items() if tasks]
    return f"{advice}: out of domain its error is {'; '.join(parts)}."


def _advice(chosen: Design, base: Design, found: Mapping[str, Difference]) -> str:
    if chosen == base:
        return f"Which norm: {base.label}, since no other choice is shown to lower the mean rank."
    changed = [factor for factor in FACTORS if getattr(chosen, factor.field) == factor.level]
    gains = ", ".join(f"{one.label} {found[one.label].value}" for one in changed)
    return f"Which norm: {chosen.label}, shown to lower the mean rank by these choices: {gains}."


def _factors(found: Mapping[str, Difference]) -> list[str]:
    """What is shown to be worse, and what is not shown to matter."""
    worse = [
        f"{label} ({one.value})"
        for label, one in found.items()
        if one.shown and one.value.value > 0
    ]
    open_ = [f"{label} ({one.value})" for label, one in found.items() if not one.shown]
    sentences = []
    if worse:
        sentences.append(f"Shown to raise it: {', '.join(worse)}.")
    if open_:
        sentences.append(f"Not shown to change it: {', '.join(open_)}.")
    return sentences


def _matter(result: Result) -> str:
    """How much the choices change the error itself: ranks tell the order alone."""
    designs = result.settings.crossing()
    sizes = [
        ratio(result.metrics, "error_out", task, factor.pairs(designs)).value
        for task in result.settings.tasks
        for factor in FACTORS
    ]
    return (
        "Which norm, and where, changes the error on a task by a factor from "
        f"{min(sizes):.2f} to {max(sizes):.2f} on average."
    )


def _side(own: Interval) -> str:
    if own.high < 1.0:
        return "smaller"
    return "larger" if own.low > 1.0 else "not told apart"


def _best(result: Result) -> str:
    """The norm of lowest mean rank, and how many cannot be told apart from it."""
    normed = [design for design in result.settings.crossing() if design.norm != "none"]
    values = ranks(result.metrics, normed)
    best = min(normed, key=lambda design: float(values[design.key].mean()))
    apart = compared(values, best)
    alike = sum(not one.shown for one in apart.values())
    return (
        f"Of all {len(normed)} combinations {best.label} has the lowest mean rank, "
        f"{bootstrap(values[best.key])}; {alike} of the others cannot be told apart from it after "
        "Holm's correction."
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


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
