"""Few registers for the values of many steps."""

from __future__ import annotations

from collections.abc import Sequence

from farfield.infinite.native.library import Step

_READ = ("a", "together_a", "cosine_a", "b", "together_b", "cosine_b")
_WRITTEN = ("out", "together_out", "cosine_out", "slope")


def drop_dead_forms(steps: Sequence[Step]) -> list[Step]:
    """Leave out the forms of an angle, 1 + cos and cos, that no later step reads.

    Args:
        steps: Steps of which each value has registers of its own; they are changed.

    Returns:
        The steps that still compute something.
    """
    live: set[int] = {-1}
    optional = [Step.CODES[name] for name in ("input", "mix", "mix_constant")]
    store = Step.CODES["store"]
    kept = []
    for step in reversed(steps):
        written = {getattr(step, name) for name in _WRITTEN} - {-1}
        if step.code != store and not written & live:
            continue
        if step.code in optional:
            for form in ("together", "cosine"):
                needed = getattr(step, f"{form}_out") in live - {-1}
                if not needed and (form == "cosine" or step.code != Step.CODES["input"]):
                    for side in ("a", "b", "out"):
                        setattr(step, f"{form}_{side}", -1)
        live |= {getattr(step, name) for name in _READ}
        kept.append(step)
    return kept[::-1]


def allocate(steps: Sequence[Step]) -> int:
    """Let values share registers whose times do not overlap.

    Args:
        steps: Steps of which each value has registers of its own; they are changed.

    Returns:
        How many registers are needed.
    """
    last = {getattr(step, name): n for n, step in enumerate(steps) for name in (*_WRITTEN, *_READ)}
    free: list[int] = []
    places: dict[int, int] = {-1: -1}
    count = 0
    for number, step in enumerate(steps):
        for name in _WRITTEN:
            value = getattr(step, name)
            if value not in places:
                if not free:
                    free.append(count)
                    count += 1
                places[value] = free.pop()
        values = {getattr(step, name) for name in (*_READ, *_WRITTEN)} - {-1}
        for name in (*_READ, *_WRITTEN):
            setattr(step, name, places[getattr(step, name)])
        free += [places[value] for value in values if last[value] == number]
    return count
