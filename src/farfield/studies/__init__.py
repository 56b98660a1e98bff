"""Published experiments, rerun, and studies of your own tables and networks.

Each has ``Settings``, ``run`` and a typed ``Result``.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farfield.studies import (
        abalone,
        certificate,
        diagnosis,
        dispersion,
        dynamics,
        ella,
        faces,
        heatmaps,
        paper,
        placements,
        protein,
        regression,
        rotated,
        tabular,
        theorems,
        toy,
        transformer,
        variance,
    )

__all__ = [
    "abalone",
    "certificate",
    "diagnosis",
    "dispersion",
    "dynamics",
    "ella",
    "faces",
    "heatmaps",
    "paper",
    "placements",
    "protein",
    "regression",
    "rotated",
    "tabular",
    "theorems",
    "toy",
    "transformer",
    "variance",
]


def __getattr__(name: str) -> ModuleType:
    # Loaded on first use: the command line lists the studies without loading PyTorch.
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
