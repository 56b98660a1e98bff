"""What a piece of work costs: wall time, and the peak of memory above what was there before."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

Work = TypeVar("Work")


@dataclass(frozen=True)
class Cost:
    """Of a piece of work.

    Attributes:
        seconds: Wall time.
        megabytes: The peak of resident memory above that at the start; not a number where the
            system does not tell.
    """

    seconds: float
    megabytes: float


def measured(work: Callable[[], Work]) -> tuple[Work, Cost]:
    """Do some work, and say what it took.

    What the allocator holds of earlier work is given back first, so that it does not serve this
    one unseen.

    Args:
        work: To be done once.

    Returns:
        What it returns, and its cost.
    """
    known = _forget_peak()
    start = _resident("VmRSS") if known else float("nan")
    began = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - began
    peak = _resident("VmHWM") if known else float("nan")
    return found, Cost(seconds, peak - start)


def _forget_peak() -> bool:
    """Start the peak anew; False where the system has none (it is Linux's)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        _RESET.write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def _resident(field: str) -> float:
    """Megabytes of resident memory: now (VmRSS), or the peak since it was forgotten (VmHWM)."""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) / 1024
