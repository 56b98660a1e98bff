"""What the networks of the placement study learn: three functions and two tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.data import digest, load_abalone, load_protein, prepare
from farfield.errors import SettingsError
from farfield.studies import abalone, protein, tabular, toy
from farfield.studies.shared.scale import Scale
from farfield.studies.tabular.models import draw_splits
from farfield.training import TrainingSettings

if TYPE_CHECKING:
    from farfield.studies.placements.study import Settings

TOY = ("sine", "linear", "quadratic")
TABLES = {"protein": (load_protein, protein.Settings), "abalone": (load_abalone, abalone.Settings)}
TASKS = (*TOY, *TABLES)

_GRID = 100


@dataclass(frozen=True, eq=False)
class Task:
    """Rows to learn and rows to be asked about, a set for each seed.

    Attributes:
        name: Its name.
        x: Inputs of training.
        y: Targets of training.
        inside: Inputs of the training domain that do not train, and their targets.
        outside: Inputs out of the training domain, and their targets.
    """

    name: str
    x: Float[Tensor, "seeds n d"]
    y: Float[Tensor, "seeds n 1"]
    inside: tuple[Float[Tensor, "seeds m d"], Float[Tensor, "seeds m"]]
    outside: tuple[Float[Tensor, "seeds far d"], Float[Tensor, "seeds far"]]


@dataclass(frozen=True, eq=False)
class Family:
    """Tasks of equal shapes, whose networks train together.

    Attributes:
        name: Its name, used in names of files.
        tasks: The tasks.
        training: How their networks are trained.
    """

    name: str
    tasks: tuple[Task, ...]
    training: TrainingSettings


def check_tasks(names: Sequence[str]) -> None:
    """See that tasks exist.

    Args:
        names: Their names.

    Raises:
        SettingsError: One does not, one comes twice, or there is none.
    """
    for name in names:
        if name not in TASKS:
            raise SettingsError(f"There is no task {name!r}; choose among {', '.join(TASKS)}.")
    if not names or len(set(names)) < len(names):
        raise SettingsError(
            f"tasks is {', '.join(names) or 'empty'}; name each task once, at least one of "
            f"{', '.join(TASKS)}."
        )


def load(
    settings: Settings, data: Path | str | None
) -> tuple[tuple[Family, ...], dict[str, object]]:
    """All tasks of the settings.

    Args:
        settings: Which tasks, and their sizes.
        data: A folder with the tables; see :func:`farfield.data.locate`.

    Returns:
        The families, and what identifies the tables.

    Raises:
        DataError: A table is not there and cannot be downloaded.
    """
    tables = {name: TABLES[name][0](data) for name in settings.tasks if name in TABLES}
    families = [
        Family(
            name,
            (_table(name, frame, settings),),
            TrainingSettings(settings.table_epochs, settings.learning_rate, settings.batch_size),
        )
        for name, frame in tables.items()
    ]
    functions = tuple(_function(name, settings) for name in settings.tasks if name in TOY)
    if functions:
        training = TrainingSettings(settings.toy_epochs, settings.learning_rate)
        families.insert(0, Family("toy", functions, training))
    found: dict[str, object] = {}
    if tables:
        found = {
            "table": ", ".join(tables),
            "sha256": ", ".join(digest(frame) for frame in tables.values()),
        }
    return tuple(families), found


def _function(name: str, settings: Settings) -> Task:
    """One of the toy study's functions, without noise: seeds differ in their weights alone."""
    low, high = settings.interval
    train = torch.linspace(low, high, settings.points)
    between = (train[1:] + train[:-1]) / 2
    beyond = torch.linspace(0.0, 1.0, _GRID + 1)[1:]
    far = torch.cat([low + beyond * (-settings.far - low), high + beyond * (settings.far - high)])
    function = toy.FUNCTIONS[name]

    def each(values: Tensor) -> Tensor:
        return values.expand(settings.seeds, *values.shape)

    return Task(
        name,
        each(train[:, None]),
        each(function(train)[:, None]),
        (each(between[:, None]), each(function(between))),
        (each(far[:, None]), each(function(far))),
    )


def _table(name: str, frame: pd.DataFrame, settings: Settings) -> Task:
    """A table, standardised by the rows that train; every seed has a split of its own."""
    own: tabular.Settings = TABLES[name][1]()
    skipped = [own.group_column] if own.group_column else []
    prepared = prepare(frame, own.target, not_features=skipped)
    domains = tabular.domains_of(prepared, own)
    splits = draw_splits(prepared, domains, own.train_fraction, settings.seeds)
    rows = min(settings.table_rows, *(len(split.train) for split in splits))
    # Whole batches alone: each shape of batch costs a trace of the gradient.
    rows = rows // settings.batch_size * settings.batch_size or rows
    tested = min(len(split.test) for split in splits)
    parts: dict[str, list[np.ndarray]] = {key: [] for key in ("x", "y", "xi", "yi", "xo", "yo")}
    for split in splits:
        train = split.train[:rows]  # in random order
        features = Scale.of(prepared.features[train])
        target = Scale.of(prepared.target[train, None])
        for key, chosen in (("", train), ("i", split.test[:tested]), ("o", split.outside)):
            parts[f"x{key}"].append(features.apply(prepared.features[chosen]))
            parts[f"y{key}"].append(target.apply(prepared.target[chosen, None]))
    x, y, xi, yi, xo, yo = (torch.from_numpy(np.stack(own)).float() for own in parts.values())
    return Task(name, x, y, (xi, yi[..., 0]), (xo, yo[..., 0]))
