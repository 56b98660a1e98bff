"""How many samples fit a memory budget."""

from __future__ import annotations

import re
from dataclasses import dataclass

from farfield.errors import SettingsError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_memory(memory: str | int) -> int:
    """Bytes of a size such as ``"2GB"``, ``"512 MiB"`` or ``10**9``.

    Args:
        memory: The size.

    Returns:
        Bytes.

    Raises:
        SettingsError: It is not a size, or less than a megabyte.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]*)\s*", str(memory))
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or found[1].count(".") > 1 or found[1] == ".":
        raise SettingsError(
            f"memory is {memory!r}; give a size such as '2GB', '512MiB' or a number of bytes."
        )
    size = int(float(found[1]) * unit)
    if size < 10**6:
        raise SettingsError(f"memory is {memory!r}; at least 1MB is needed.")
    return size


@dataclass(frozen=True)
class Need:
    """What a kernel's blocks take, in bytes.

    Attributes:
        graph: Of a sample's graph.
        signals: Of a sample's signals and written-out gradients, all directions together.
        values: Of a sample's largest layer.
        pair: Of a pair of samples, in the kernel.
    """

    graph: float | int
    signals: float | int
    values: float | int
    pair: float | int


def block_side(need: Need, budget: int, samples: int) -> int:
    """Samples of a block, so that all samples in one, or two blocks, fit a budget.

    Args:
        need: What blocks take.
        budget: Bytes.
        samples: The number of samples there are.

    Returns:
        At least 1: a single sample is never divided.
    """
    room = budget - scratch_of(budget)
    # A single graph, and of the gradients that run through it those of a few layers at a time.
    whole = 1.25 * need.graph + need.signals + 2 * need.values
    if samples * whole + 3 * samples**2 * need.pair <= room:
        return samples
    # Two graphs are alive, and while one is run backwards, gradients as large as it.
    each = 3 * need.graph + 2 * need.signals + 2 * need.values
    side = max(1, int(min(samples, room / max(each, 1.0))))
    while side > 1 and side * each + 3 * side**2 * need.pair > room:
        side = -(-side * 9 // 10) - 1
    side = max(1, side)
    blocks = -(-samples // side)
    return -(-samples // blocks)  # blocks of equal size, rather than a small one at the end


def scratch_of(budget: int) -> int:
    """The share of a budget for intermediate arrays of the products."""
    return budget // 4
