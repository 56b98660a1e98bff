"""What the paper says of norms and their place, beside what the placement study found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from farfield.studies.shared.claims import NOT_RUN, Claim
from farfield.studies.shared.published_scores import WIDE
from farfield.studies.shared.statistics import mean

if TYPE_CHECKING:
    from farfield.studies.placements.study import Result

_GROWS = 3.0  # ten times further away a line grows about ten times, what has settled does not
_PUBLISHED = 0.04  # the published intervals of two R2 in Table 1, 0.02 each


_ANY_NORM = (
    "Beyond: placements, any norm",
    "A norm at any one hidden layer keeps predictions from growing.",
    "theorem 3.2, LayerNorm",
)
_PLACE = (
    "Beyond: placements, place",
    "On proteins the place of LayerNorm makes no difference out of domain.",
    "Table 1: R2 0.50, 0.50, 0.50 (every, first, last)",
)


def claims(result: Result) -> tuple[Claim, ...]:
    """The paper's claims beside what was found.

    Args:
        result: What was measured.

    Returns:
        Claims; that on proteins only where they were learned.
    """
    return (_bounded(result), *_places(result))


def not_run(why: str) -> tuple[Claim, ...]:
    """The same claims where a table is missing.

    Args:
        why: The reason.

    Returns:
        The claims, not run.
    """
    return tuple(Claim(*known, NOT_RUN, None, why) for known in (_ANY_NORM, _PLACE))


def growth(result: Result) -> dict[str, float]:
    """How much larger predictions get ten times further away, by design.

    Args:
        result: What was measured.

    Returns:
        The largest over tasks of the median over seeds.
    """
    own = result.metrics
    grown = own.assign(grown=own["largest_farther"] / own["largest_out"])
    by_task = grown.groupby(["design", "task"])["grown"].median()
    return {str(key): float(value) for key, value in by_task.groupby("design").max().items()}


def _bounded(result: Result) -> Claim:
    grown = growth(result)
    normed = [grown[design.key] for design in result.settings.designs() if design.norm != "none"]
    without = [grown[design.key] for design in result.settings.designs() if design.norm == "none"]
    kept = max(normed) < _GROWS < min(without)
    return Claim(
        *_ANY_NORM,
        f"ten times further away the largest prediction is at most {max(normed):.3g} times as "
        f"large with any of {len(normed)} norms, {min(without):.3g} to {max(without):.3g} times "
        f"without (largest over tasks, median over seeds)",
        kept,
        "RMSNorm divides by the size of the units as LayerNorm does, before the activation or "
        "after it, with a gain or without."
        if kept
        else f"The limit between growing and settling is set at {_GROWS:g} times.",
    )


def _places(result: Result) -> tuple[Claim, ...]:
    if "protein" not in result.settings.tasks:
        return ()
    own = result.metrics.query("task == 'protein'")
    scores = own.pivot(index="seed", columns="design", values="r2_out")
    base = result.settings.crossing()[0]
    found = {place: scores[replace(base, place=place).key] for place in ("every", "first", "last")}
    gaps = {key: mean(found[key] - found["first"]) for key in ("every", "last")}
    kept = not any(
        abs(gap.value) > _PUBLISHED and abs(gap.value) > gap.half_width for gap in gaps.values()
    )
    told = all(gap.half_width <= WIDE for gap in gaps.values())
    return (
        Claim(
            *_PLACE,
            f"R2 {', '.join(f'{mean(value)} ({key})' for key, value in found.items())}; less "
            f"first, seed by seed: {', '.join(f'{gap} ({key})' for key, gap in gaps.items())}",
            kept if told else None,
            f"{result.settings.table_rows} rows and {result.settings.table_epochs} epochs in "
            "batches, fewer than published; a difference counts beyond its own interval and "
            f"{_PUBLISHED:g}, the sum of two published ones, and intervals of more than "
            f"± {WIDE:g} tell nothing.",
        ),
    )
