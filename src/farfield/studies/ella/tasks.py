"""The two tasks of the ELLA study, images and proteins: what trains, tests and is far."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.data import load_protein, prepare, split_by_threshold, train_test_rows
from farfield.data.digits import load_digits
from farfield.data.fashion import CLASSES, load_fashion
from farfield.errors import SettingsError
from farfield.studies.shared.scale import Scale
from farfield.studies.shared.turning import turned

if TYPE_CHECKING:
    from farfield.studies.ella.study import Settings

IMAGES, PROTEINS = "images", "proteins"
TEST = "test"
"""The domain of samples like those of training; the others are far from it."""

UNKNOWN = -1
"""The label of a class that the network does not have."""

_SPLIT, _THRESHOLD, _TARGET = "F1", 20_000.0, "RMSD"

Labelled = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Task:
    """Samples of one seed.

    Attributes:
        name: ``"images"`` or ``"proteins"``.
        likelihood: ``"classification"`` or ``"regression"``.
        outputs: Of the network.
        train: Inputs and targets that train.
        validation: Others of the same kind, by which prior precision and noise are chosen.
        domains: Inputs and targets that test, by domain; the first one is :data:`TEST`.
    """

    name: str
    likelihood: str
    outputs: int
    train: Labelled
    validation: Labelled
    domains: Mapping[str, Labelled]


@dataclass(frozen=True, eq=False)
class Pool:
    """All images, before they are split.

    Attributes:
        images: Grey values from 0 to 1.
        labels: The number of each image's class.
        names: The classes by their number.
        source: Where the images come from.
    """

    images: Float[Tensor, "n 1 h w"]
    labels: Int[np.ndarray, " n"]
    names: tuple[str, ...]
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 of images and labels."""
        content = self.images.numpy().tobytes() + self.labels.tobytes()
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, eq=False)
class Table:
    """The proteins, before they are split.

    Attributes:
        features: A row for each protein.
        target: RMSD.
        splits: For each seed the rows that train (with those that validate), and that test.
        larger: Rows of proteins larger than any in training.
    """

    features: Float[np.ndarray, "n d"]
    target: Float[np.ndarray, " n"]
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]
    larger: Int[np.ndarray, " m"]


def load_images(settings: Settings, folder: Path | str) -> Pool:
    """The images that the settings ask for.

    Args:
        settings: Which ones, and how many.
        folder: The folder of Fashion-MNIST.

    Returns:
        All of them.

    Raises:
        DataError: They are not there.
        SettingsError: There are fewer than asked for, or no class of that name.
        MissingExtraError: The digits need scikit-learn.
    """
    if settings.images == "digits":
        digits = load_digits()
        grey = torch.from_numpy(digits.images).view(-1, 1, 8, 8)
        pool = Pool(grey, digits.labels, tuple("0123456789"), digits.source)
    else:
        parts = [load_fashion(folder, part) for part in ("train", "test")]
        images = np.concatenate([part.images for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        grey = torch.from_numpy(images.astype(np.float32) / np.float32(255.0))[:, None]
        pool = Pool(grey, labels, CLASSES, "Fashion-MNIST")
    if settings.hold_out not in pool.names:
        raise SettingsError(
            f"hold_out is {settings.hold_out!r}; {pool.source} has the classes "
            f"{', '.join(pool.names)}."
        )
    known = int((pool.labels != pool.names.index(settings.hold_out)).sum())
    wanted = settings.train_images + settings.validation + settings.test
    if wanted > known:
        raise SettingsError(
            f"{settings.train_images} images to train, {settings.validation} to validate and "
            f"{settings.test} to test are {wanted}; {pool.source} has {known} without "
            f"{settings.hold_out}."
        )
    return pool


def image_task(pool: Pool, settings: Settings, seed: int) -> Task:
    """Images split at random, one class held out, and the test images turned.

    Args:
        pool: All images.
        settings: How many of each kind.
        seed: Of the split and of the angles.

    Returns:
        The task, with the domains test, turned and held out.
    """
    held = pool.names.index(settings.hold_out)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(pool.labels))
    outside = torch.from_numpy(order[pool.labels[order] == held][: settings.test])
    inside = order[pool.labels[order] != held]
    # The classes that are left are numbered anew.
    labels = torch.from_numpy(pool.labels - (pool.labels > held))
    cuts = np.cumsum([settings.train_images, settings.validation, settings.test])
    parts = [torch.from_numpy(rows) for rows in np.split(inside[: cuts[-1]], cuts[:-1])]
    train, validation, test = ((pool.images[rows], labels[rows]) for rows in parts)
    angles = generator.uniform(-settings.largest_angle, settings.largest_angle, settings.test)
    height, width = pool.images.shape[2:]
    return Task(
        IMAGES,
        "classification",
        len(pool.names) - 1,
        train,
        validation,
        {
            TEST: test,
            "turned": (turned(test[0], angles, (height, width)), test[1]),
            "held out": (
                pool.images[outside],
                torch.full((len(outside),), UNKNOWN, dtype=torch.int64),
            ),
        },
    )


def load_table(settings: Settings, folder: Path | str | None) -> Table:
    """The proteins, with a split for each seed.

    Args:
        settings: How many seeds.
        folder: See :func:`farfield.data.locate`.

    Returns:
        Features, targets and rows.

    Raises:
        DataError: The table is not there.
        SettingsError: There are fewer rows than asked for.
    """
    prepared = prepare(load_protein(folder), _TARGET)
    domains = split_by_threshold(prepared, _SPLIT, _THRESHOLD)
    splits = tuple(
        train_test_rows(prepared, domains.inside, 0.9, seed) for seed in range(settings.seeds)
    )
    train, test = splits[0]
    if settings.train_rows + settings.validation_rows > len(train) or settings.test > len(test):
        raise SettingsError(
            f"{settings.train_rows} proteins to train and {settings.validation_rows} to validate "
            f"are more than {len(train)}, or {settings.test} to test more than {len(test)}."
        )
    return Table(prepared.features, prepared.target, splits, domains.outside)


def protein_task(table: Table, settings: Settings, seed: int) -> Task:
    """Proteins of a surface area below 20,000, and larger ones, standardised by the training rows.

    Args:
        table: All proteins.
        settings: How many of each kind.
        seed: Which split.

    Returns:
        The task, with the domains test and larger.
    """
    rows, test = table.splits[seed]
    train, validation = np.split(
        rows[: settings.train_rows + settings.validation_rows], [settings.train_rows]
    )
    inputs = Scale.of(table.features[train])
    targets = Scale.of(table.target[train, None])

    def pair(chosen: np.ndarray) -> Labelled:
        x = inputs.apply(table.features[chosen]).astype(np.float32)
        y = targets.apply(table.target[chosen, None]).astype(np.float32)
        return torch.from_numpy(x), torch.from_numpy(y)

    return Task(
        PROTEINS,
        "regression",
        1,
        pair(train),
        pair(validation),
        {TEST: pair(test[: settings.test]), "larger": pair(table.larger[: settings.test])},
    )
