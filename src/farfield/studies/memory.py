"""Whether a kernel matrix fits in memory, before it is computed."""

from __future__ import annotations

import os
from pathlib import Path

from farfield.errors import SettingsError

_BESIDE = 2**30  # what a fit of many rows takes beside its matrix
_MANY = 4096  # rows from which that is so
_GIGABYTE = 10**9


def require_matrix(rows: int) -> None:
    """See that a matrix of all pairs of rows fits in what memory is free.

    Args:
        rows: How many.

    Raises:
        SettingsError: It does not; the message says how large it is, and how many rows fit.
    """
    free = free_memory()
    beside = _BESIDE if rows > _MANY else 0
    if 8 * rows**2 + beside <= free:
        return
    fitting = max(int((max(free - _BESIDE, 0) / 8) ** 0.5), 100)
    digits = max(len(str(fitting)) - 2, 0)
    raise SettingsError(
        f"The kernel matrix of {rows:,} training rows takes {8 * rows**2 / _GIGABYTE:,.1f} GB "
        f"({rows:,} x {rows:,} numbers of 8 bytes), and {free / _GIGABYTE:,.1f} GB of memory are "
        f"free; train on a random part of the rows with --rows {fitting // 10**digits * 10**digits}"
        " or fewer."
    )


def free_memory() -> int:
    """Bytes that a program can still take: of the machine, and of its control group's limit."""
    limits = [_of_machine()]
    group = Path("/sys/fs/cgroup")
    try:
        limit, taken = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        limits.append(int(limit) - int(taken))  # "max", without a limit, is no number
    except (OSError, ValueError):
        pass
    return max(min(limits), 0)


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return 1024 * int(found["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
