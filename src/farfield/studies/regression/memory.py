"""Whether a kernel matrix fits in memory, before it is computed."""

from __future__ import annotations

from farfield.errors import SettingsError
from farfield.machine import free_memory
from farfield.regression.cholesky import BESIDE, bytes_needed

_GIGABYTE = 10**9


def require_matrix(rows: int) -> None:
    """See that a matrix of all pairs of rows fits in what memory is free.

    Args:
        rows: How many.

    Raises:
        SettingsError: It does not; the message says how large it is, and how many rows fit.
    """
    free = free_memory()
    if bytes_needed(rows) <= free:
        return
    fitting = max(int((max(free - BESIDE, 0) / 8) ** 0.5), 100)
    digits = max(len(str(fitting)) - 2, 0)
    raise SettingsError(
        f"The kernel matrix of {rows:,} training rows takes {8 * rows**2 / _GIGABYTE:,.1f} GB "
        f"({rows:,} x {rows:,} numbers of 8 bytes), and {free / _GIGABYTE:,.1f} GB of memory are "
        f"free; train on a random part of the rows with --rows {fitting // 10**digits * 10**digits}"
        " or fewer."
    )
