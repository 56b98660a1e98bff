"""The compiled form of ``strips.c``: made once in a process, in a folder that is gone at once."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import ClassVar

import numpy as np

SWITCH = "FARFIELD_NATIVE"
"""Environment variable: 0 never compiles anything."""

_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = [
    "-O2",
    "-ftree-vectorize",
    "-fvect-cost-model=dynamic",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
]
_SECONDS = 20.0  # a compiler that takes longer is not worth waiting for
_TERMS = 20  # of each polynomial, as in strips.c
GROUP = 64  # rows that are written together, as in strips.c
STRIP = 256  # columns that go through all steps together, as in strips.c
PITCH = 264  # distance of rows that are written together, as in strips.c

_Pointer = ctypes.c_void_p
_Size = ctypes.c_ssize_t


_NAMES = (
    "input", "mix", "mix_constant", "spread", "rectify", "layer", "cosine", "together", "multiply",
    "weigh", "fill", "store",
)  # fmt: skip


class Step(ctypes.Structure):
    """One step of a program; see strips.c."""

    _fields_ = (
        ("code", ctypes.c_int),
        ("a", ctypes.c_int),
        ("together_a", ctypes.c_int),
        ("cosine_a", ctypes.c_int),
        ("b", ctypes.c_int),
        ("together_b", ctypes.c_int),
        ("cosine_b", ctypes.c_int),
        ("out", ctypes.c_int),
        ("together_out", ctypes.c_int),
        ("cosine_out", ctypes.c_int),
        ("slope", ctypes.c_int),
        ("number", ctypes.c_int),
        ("kappa", ctypes.c_double),
        ("left1", _Pointer),
        ("right1", _Pointer),
        ("left2", _Pointer),
        ("right2", _Pointer),
        ("left3", _Pointer),
        ("right3", _Pointer),
        ("left4", _Pointer),
        ("right4", _Pointer),
    )
    CODES: ClassVar[dict[str, int]] = {name: number for number, name in enumerate(_NAMES)}


class Input(ctypes.Structure):
    """The directions of the inputs, and their cosines in a tile."""

    _fields_ = (
        ("cosine", _Pointer),
        ("left_shrunk", _Pointer),
        ("right_shrunk", _Pointer),
        ("left_unit", _Pointer),
        ("right_unit", _Pointer),
        ("left_scale", _Pointer),
        ("right_scale", _Pointer),
        ("left_norm", _Pointer),
        ("right_norm", _Pointer),
        ("features", ctypes.c_int),
    )


class Output(ctypes.Structure):
    """Where a tile is written, and its mirror image."""

    _fields_ = (
        ("values", _Pointer),
        ("mirror", _Pointer),
        ("stride", _Size),
        ("mirror_stride", _Size),
    )


@cache
def load() -> ctypes.CDLL | None:
    """The library; ``None`` without a compiler, or when the switch is off."""
    compiler = next((path for name in _COMPILERS if (path := shutil.which(name))), None)
    if compiler is None or os.name != "posix" or os.environ.get(SWITCH) == "0":
        return None
    with tempfile.TemporaryDirectory(prefix="farfield-") as folder:
        source, target = Path(folder) / "strips.c", Path(folder) / "strips.so"
        source.write_text(resources.files(__package__).joinpath("strips.c").read_text("utf-8"))
        command = [compiler, *_FLAGS, str(source), "-o", str(target), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
            library = ctypes.CDLL(str(target))
        except (OSError, subprocess.SubprocessError):
            return None
    library.run.restype = None
    library.run.argtypes = [
        ctypes.POINTER(Step), ctypes.c_int, ctypes.POINTER(Input), ctypes.POINTER(Output),
        ctypes.c_int, _Pointer, _Pointer, _Pointer, _Size, ctypes.c_int, _Size, ctypes.c_int,
    ]  # fmt: skip
    return library


@cache
def coefficients() -> np.ndarray:
    """Polynomials in ``y = 4 x - 1`` for ``t / sin t`` and ``(sin t - t cos t) / (x sin t)``.

    Here ``x = sin^2(t / 2)`` runs over (0, 1/2). Both are analytic in x up to x = 1, so that
    their Chebyshev coefficients fall by a factor of 5.8 each.
    """
    count = _TERMS
    y = np.cos(math.pi * (np.arange(count) + 0.5) / count)
    x = 0.25 * (y + 1.0)
    t = 2.0 * np.arcsin(np.sqrt(x))
    values = [t / np.sin(t), _sine_minus(t) / (x * np.sin(t))]
    return np.concatenate([_polynomial(y, part) for part in values])


def _polynomial(y: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients of the polynomial through these values at Chebyshev's nodes."""
    chebyshev = np.polynomial.chebyshev
    series = chebyshev.chebfit(y, values, len(y) - 1)
    return np.asarray(chebyshev.cheb2poly(series), dtype=np.float64)


def _sine_minus(t: np.ndarray) -> np.ndarray:
    """``sin t - t cos t`` from its series, 20 terms of which are exact up to pi / 2."""
    total = np.zeros_like(t)
    for k in range(20, 0, -1):
        total = total * t**2 + (-1.0) ** (k + 1) * 2 * k / math.factorial(2 * k + 1)
    return np.asarray(total * t**3)
