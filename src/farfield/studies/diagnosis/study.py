"""The diagnosis of a user's own network, with its figures."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from farfield.diagnosis import Diagnosis, diagnose
from farfield.errors import DataError
from farfield.growth import load_builder
from farfield.studies.diagnosis import figures
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.story import Figure, Story, Table
from farfield.studies.shared.workspace import DIAGNOSIS, Workspace

_KINDS = "fiub"  # of NumPy's dtypes: floats, whole numbers, truth values


@dataclass(frozen=True)
class Settings:
    """What is diagnosed.

    Attributes:
        model: ``my_model.py:build``, a Python file and a function in it that returns the model.
        data: A ``.npy`` file of inputs, the samples first.
        targets: A ``.npy`` file of targets; without one nothing is trained.
        draws: Number of random networks.
        steps: Steps of Adam.
        learning_rate: Its rate.
        seed: Of what is drawn at random.
    """

    model: str
    data: str
    targets: str | None = None
    draws: int = 200
    steps: int = 100
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Result:
    """A diagnosis, ready to be told.

    Attributes:
        settings: What was diagnosed.
        diagnosis: The diagnosis.
        metrics: Its table: quantity, value, remark.
        predictions: log T of each draw.
        record: Settings, versions and machine.
    """

    settings: Settings
    diagnosis: Diagnosis
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    record: Mapping[str, object]

    def story(self) -> Story:
        """The report's content."""
        told = self.diagnosis
        return Story(
            title=f"Diagnosis of {self.settings.model}",
            question="Does tangent-kernel theory describe this network at its width and depth?",
            answer=f"{told.verdict[0].upper()}{told.verdict[1:]}. {told.reason}",
            tables=(
                Table(
                    "What was measured; T(x, x) is the squared length of an output's gradient with "
                    "respect to all parameters.",
                    self.metrics.set_index("quantity"),
                    prose=True,
                ),
            ),
            figures=_figures(told),
            remarks=(f"Networks were drawn {told.source}.",),
            notes=(
                "Dispersion and kernels in standard parametrisation (plain gradients), means over "
                "the outputs; its interval by drawing the draws again with replacement.",
                "Gradients: sums over units of squared derivatives of a random combination of the "
                "outputs with respect to the biases of each layer, as if all had one; a channel "
                "has one for all its places.",
                "The thresholds of the verdict are named and explained in "
                "farfield.diagnosis.verdict.",
            ),
            source=(
                "Seleznova and Kutyniok, Analyzing Finite Neural Networks: Can We Trust Neural "
                "Tangent Kernel Theory? (MSML 2021); Neural Tangent Kernel Beyond the "
                "Infinite-Width Limit (ICML 2022)."
            ),
            rerun=f"farfield.studies.diagnosis.run(farfield.studies.diagnosis.{self.settings!r})",
        )


def run(
    settings: Settings,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Diagnose a network that a Python file builds, on inputs from a file.

    Args:
        settings: What to diagnose.
        out: A folder for ``diagnosis.json`` and the tables; nothing is written by default.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        The diagnosis with its tables.

    Raises:
        SettingsError: The file, its function or a setting cannot be used.
        DataError: The inputs or targets cannot be used.
        RangeError: A kernel is not finite, or all are zero.
        OutputError: The folder holds a run, or cannot be written to.
    """
    x = _array(Path(settings.data), "inputs")
    y = None if settings.targets is None else _array(Path(settings.targets), "targets")
    build = load_builder(settings.model)
    data = {
        name: {"file": path, "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
        for name, path in (("data", settings.data), ("targets", settings.targets))
        if path is not None
    }
    workspace = Workspace.open(
        out, "diagnosis", settings, data=data, resume=None, overwrite=overwrite
    )
    # Gradients and matrices of some draws, on top of all draws and steps.
    total = settings.draws + 40 + (settings.steps if y is not None else 0)
    with workspace.kept_if_finished(), Steps(max(1, total), progress) as bar:
        told = diagnose(
            build,
            x,
            y,
            draws=settings.draws,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            progress=bar.stage,
        )
        metrics = told.table()
        predictions = pd.DataFrame({"log_kernel": told.log_kernels.numpy()})
        workspace.save(metrics, predictions)
        workspace.write(DIAGNOSIS, json.dumps(told.as_dict(), indent=2) + "\n")
        workspace.finish()
    return Result(settings, told, metrics, predictions, workspace.record)


def _array(path: Path, what: str) -> Tensor:
    """Numbers from a .npy file; nothing in it is run."""
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as an array without running code; save the {what} with "
            "numpy.save(path, array), as numbers."
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} holds several arrays; save the {what} alone, with numpy.save.")
    if array.dtype.kind not in _KINDS:
        raise DataError(f"{path} holds {array.dtype}; the {what} must be numbers.")
    if array.ndim == 0 or len(array) == 0:
        raise DataError(f"{path} has shape {array.shape}; the {what} need a row for each sample.")
    # PyTorch asks for the order of bytes of this machine, and knows no floats beyond 8 bytes.
    if array.dtype.kind in "ub":
        return torch.from_numpy(array.astype(np.int64))
    size = min(array.dtype.itemsize, 8)
    return torch.from_numpy(array.astype(f"={array.dtype.kind}{size}"))


def _figures(told: Diagnosis) -> tuple[Figure, ...]:
    spread = told.dispersion
    drawn = [
        Figure(
            "kernels",
            f"log T(x, x) at one input over {spread.draws} draws; the line is the median. A "
            "kernel that theory can use is a narrow peak.",
            functools.partial(figures.kernels, values=told.log_kernels.numpy()),
        )
    ]
    if len(told.gradients.sizes) > 1:
        drawn.append(
            Figure(
                "gradients",
                "Mean squared gradient with respect to the biases of each layer, summed over its "
                f"units, from the first layer to the last: {told.gradients.phase}.",
                functools.partial(figures.gradients, sizes=told.gradients.sizes),
            )
        )
    if told.agreement.correlation is not None:
        drawn.append(
            Figure(
                "agreement",
                "The kernel of one finite network at pairs of different inputs, beside the exact "
                "one of infinite width; on the line they are equal.",
                functools.partial(
                    figures.agreement,
                    finite=told.agreement.finite,
                    infinite=told.agreement.infinite,
                ),
                (5.0, 4.6),
            )
        )
    return tuple(drawn)
