"""A kernel regression on rows that need not fit in memory, and that goes on after a kill."""

from __future__ import annotations

import json
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farfield import files
from farfield.errors import DataError, OutputError, SettingsError
from farfield.regression.centres import basis_of
from farfield.regression.kernel_regression import KernelFit, KernelRegression
from farfield.regression.nystrom import Nystrom, solution_of
from farfield.regression.sums import Sums, add_rows, tile_rows
from farfield.scale.job import Job, differences
from farfield.scale.rows import Rows, Source, opened_pair

Progress = Callable[[int, int], None]
"""Called with the number of rows that have been added, and that of all."""


def fit(
    regression: KernelRegression,
    x: Source,
    y: Source | None = None,
    *,
    checkpoint: str | Path | None = None,
    every_seconds: float | int = 60.0,
    progress: Progress | None = None,
) -> KernelFit:
    """Fit a kernel regression by Nystrom's method, reading its rows tile by tile.

    The fit is that of ``regression.fit(x, y)``; the memory is that of the centres and a tile, and
    the time grows in proportion to the rows. A checkpoint holds what the rows so far have come
    to: a run that was killed goes on from it, to the same bits. It does not depend on the ridge, so
    that a finished one gives the fit for another ridge at once.

    Args:
        regression: With ``solver="nystrom"`` or the settings of an :class:`farfield.Nystrom`.
        x: Inputs (n, *features): see :func:`farfield.scale.compute`.
        y: Targets (n,) or (n, outputs), likewise; ``None`` for a DataLoader whose batches hold
            inputs and targets.
        checkpoint: A file, written now and then and at the end; nothing is kept when ``None``.
        every_seconds: Time between two checkpoints.
        progress: Called at the beginning and after each tile.

    Returns:
        What predicts.

    Raises:
        SettingsError: Another solver, inputs and targets that do not fit, or inputs that are not
            finite.
        DataError: A file that cannot be read, or targets that are not finite.
        OutputError: The checkpoint belongs to another job (the message says what differs), cannot
            be read, or cannot be written.
        SingularKernelError: See :class:`farfield.Nystrom`.
        RangeError: Likewise.

    Warns:
        ConditioningWarning: Likewise.

    Example:
        >>> import numpy as np, torch, farfield as ff
        >>> limit = ff.infinite_width(ff.mlp(3, [8], 1, norm="layer"), 2.0, 0.1)
        >>> regression = ff.KernelRegression(limit.ntk, 1e-3, solver=ff.Nystrom(30))
        >>> x = np.random.default_rng(0).standard_normal((2000, 3))
        >>> fitted = ff.scale.fit(regression, x, np.sin(x[:, 0]))
        >>> new = torch.from_numpy(x[:2])
        >>> bool((fitted.predict(new) - new[:, 0].sin()).abs().max() < 0.2)
        True
    """
    solver = _nystrom(regression)
    start = time.perf_counter()
    with opened_pair(x, y, regression.kernel_dtype) as (rows, targets):
        _check(rows, targets)
        count, kernel = len(rows), regression.kernel
        basis = basis_of(kernel, solver.drawn(kernel, rows.read, count))
        sums = Sums.nothing(len(basis), int(np.prod(targets.shape[1:])))
        kept = None
        if checkpoint is not None:
            job = Job(kernel, rows, Rows(basis.centres), tile_rows(len(basis)))
            described = job.description()
            described["job"]["y"] = targets.description
            kept = Kept(Path(checkpoint), described)
            sums = kept.read() or sums
        told = progress or (lambda done, total: None)
        told(sums.rows, count)

        def after(sums: Sums) -> None:
            if kept is not None:
                kept.write(sums, 0.0 if sums.rows == count else every_seconds)
            told(sums.rows, count)

        add_rows(
            sums, kernel, basis, rows.read,
            lambda part: targets.read(part).reshape(part.stop - part.start, -1), count, after,
        )  # fmt: skip
        solution = solution_of(kernel, basis, sums, regression.ridge, start)
        flat = len(targets.shape) == 1
    return KernelFit(regression, solution, "nystrom, as asked for", flat)


class Kept:
    """Sums in a file, with the job that they belong to.

    Args:
        path: The file.
        description: The job.
    """

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self._path = path
        self._description = description
        self._written = time.monotonic()

    def read(self) -> Sums | None:
        """The sums, if there are any.

        Raises:
            OutputError: They cannot be read, or belong to another job.
        """
        if not self._path.exists():
            files.make_folder(self._path.parent)
            return None
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                before = json.loads(str(found["job"]))
                gram, moments, largest = (
                    torch.from_numpy(found[name]) for name in ("gram", "moments", "largest")
                )
                rows = int(found["rows"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise OutputError(
                f"The checkpoint {self._path} cannot be read ({type(error).__name__}); remove it "
                "to begin anew, or choose another file."
            ) from error
        if changed := differences(before, self._description):
            raise OutputError(
                f"The checkpoint {self._path} is of another job: {'; '.join(changed)}. Choose "
                "another file, or remove this one."
            )
        return Sums(gram, moments, largest, rows)

    def write(self, sums: Sums, every_seconds: float | int) -> None:
        """Write the sums, if that has not been done for so many seconds.

        Raises:
            OutputError: They cannot be written.
        """
        if time.monotonic() - self._written < every_seconds:
            return
        with files.atomic(self._path) as temporary, temporary.open("wb") as file:
            np.savez(
                file, gram=sums.gram.numpy(), moments=sums.moments.numpy(),
                largest=sums.largest.numpy(), rows=sums.rows, job=json.dumps(self._description),
            )  # fmt: skip
        self._written = time.monotonic()


def _nystrom(regression: KernelRegression) -> Nystrom:
    if regression.solver == "nystrom":
        return Nystrom()
    if isinstance(regression.solver, Nystrom):
        return regression.solver
    raise SettingsError(
        f"The solver is {regression.solver!r}; rows are read tile by tile for "
        "KernelRegression(..., solver=ff.Nystrom(centres)). Others need all rows in memory: "
        "KernelRegression(...).fit(x, y)."
    )


def _check(rows: Rows, targets: Rows) -> None:
    """Refuse what does not fit before anything is computed."""
    if not len(rows):
        raise SettingsError("There are no rows; at least one is needed.")
    if len(rows.shape) < 2:
        raise SettingsError(
            f"The inputs have shape {rows.shape}; they must have shape (n, features), one row for "
            "each point."
        )
    if len(targets.shape) > 2 or len(targets) != len(rows) or 0 in targets.shape:
        raise SettingsError(
            f"The targets have shape {targets.shape} for {len(rows)} inputs; they must have shape "
            f"({len(rows)},) or ({len(rows)}, outputs)."
        )
    rows.check_finite("inputs", SettingsError)
    targets.check_finite("targets", DataError)
