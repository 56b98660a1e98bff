"""What commands are given: checked, and as it was given."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from farfield.errors import SettingsError


def command_line() -> str:
    """The command as given, but for what to do with an earlier run."""
    given = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    return shlex.join(["farfield", *given])


def set_threads(threads: int | None) -> None:
    """Let PyTorch use so many threads; as many as it likes without a number."""
    if threads is None:
        return
    cores = os.cpu_count() or 1
    if not 1 <= threads <= cores:
        raise SettingsError(
            f"threads is {threads}; it must be at least 1 and at most {cores}, the cores here."
        )
    import torch

    torch.set_num_threads(threads)


def scale(quick: Mapping[str, object], **given: object) -> dict[str, Any]:
    """The settings of scale: what the user gave goes before those of a quick look."""
    return {**quick, **{name: value for name, value in given.items() if value is not None}}


def whole_numbers(text: str, what: str, example: str) -> tuple[int, ...]:
    """Whole numbers between commas; ``what`` and ``example`` are for the message."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        verb = "are" if what.endswith("s") else "is"
        raise SettingsError(
            f"The {what} {text!r} {verb} not whole numbers separated by commas, such as {example}."
        ) from error
