"""What this machine has to give."""

from __future__ import annotations

import os
from pathlib import Path


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
