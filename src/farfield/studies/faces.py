"""Table 2 and Fig. 4 of "Just One Layer Norm Guarantees Stable Extrapolation": ages of faces.

Heads on the features of a frozen ResNet-18 learn the age of faces of four ethnicities in UTKFace
and are asked about the fifth.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import torch

from farfield.data.faces import Faces, find_faces
from farfield.data.features import cached_features
from farfield.data.images import load_pillow, read_image
from farfield.errors import DataError, SettingsError
from farfield.studies import heads
from farfield.studies.heads import Bank, Framing, Result
from farfield.studies.heads.backbones import Backbone, load_backbone
from farfield.studies.heads.claims import PUBLISHED
from farfield.studies.shared.devices import resolve_device
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.workspace import Workspace
from farfield.studies.tabular import figures

__all__ = ["PUBLISHED", "QUICK", "Result", "Settings", "run"]

QUICK = {"seeds": 3, "epochs": 2}
"""Settings of a first look; the features are computed for all images."""

_BATCH = 32


@dataclass(frozen=True)
class Settings(heads.Settings):
    """Settings of the faces study; the defaults are the paper's where it states them.

    Stated: ethnicities White, Black, Asian and Indian train, Others are out of domain; a frozen
    ResNet-18; two hidden layers of 128 ReLU units; batches of 128, 10 epochs of Adam at 0.001
    (standard, LayerNorm first) or 0.003 (LayerNorm second, every); 250 seeds. Not stated: the part
    that trains, the size of the images for the ResNet, how they are brought to it, whether ages
    were standardised; whether all images of Others or a part of them test (here all).

    Attributes: see also :class:`farfield.studies.heads.Settings`.
        image_size: Side of the square that images are brought to, in pixels.
    """

    hold_out: tuple[str, ...] = ("Others",)
    image_size: int = 224

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        super().__post_init__()
        if not 32 <= self.image_size <= 1024:
            raise SettingsError(f"image_size is {self.image_size}; it must be from 32 to 1024.")


def run(
    data: Path | str,
    settings: Settings | None = None,
    *,
    backbone: Path | str | None = None,
    cache: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Run the faces study on the user's own copy of UTKFace.

    Args:
        data: The folder with the images (those below it are found too), or an archive of it.
        settings: The settings; the paper's by default, but for 25 seeds.
        backbone: A folder with another vision model of transformers; see
            :func:`farfield.studies.heads.backbones.load_backbone`.
        cache: A folder for features and unpacked archives; the user's cache by default.
        out: A folder for settings, metrics and predictions; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show progress bars.

    Returns:
        Metrics and predictions.

    Raises:
        DataError: Images or backbone are not there or cannot be used.
        SettingsError: Settings other than those of the run to resume.
        MissingExtraError: transformers, Pillow or statsmodels is not installed.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), section 4.3, Table 2 and Figure 4; data:
    Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder" (CVPR
    2017).
    """
    settings = settings if settings is not None else Settings()
    load_pillow()
    figures.require_smoother()
    device = resolve_device(settings.device)
    kept = Path(cache) if cache is not None else Path(pooch.os_cache("farfield"))
    faces = find_faces(data, kept / "unpacked")
    frame = faces.frame
    heads.split(frame["age"].to_numpy(float), frame["ethnicity"].to_numpy(), settings)
    network = load_backbone(Path(backbone) if backbone is not None else None, device)
    digest = hashlib.sha256("\n".join([network.fingerprint, *frame["sha256"]]).encode())
    workspace = Workspace.open(
        out,
        "faces",
        settings,
        data={"images": str(data), "backbone": network.name, "sha256": digest.hexdigest()},
        resume=resume,
        overwrite=overwrite,
    )
    features = _features(faces, network, settings.image_size, device, kept / "features", progress)
    readable = np.isfinite(features).all(axis=1)
    frame = frame[readable].reset_index(drop=True)
    used = replace(faces, frame=frame)
    bank = Bank(features[readable], frame["age"].to_numpy(float), frame["ethnicity"].to_numpy())
    rows = heads.split(bank.target, bank.group, settings)
    framing = Framing(
        title="Ages of faces of an ethnicity that training has not seen",
        target="age (years)",
        backbone=network.name,
        notes=(*used.notes(), *_unreadable(readable)),
        source=(
            "Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable "
            "Extrapolation (NeurIPS 2025), section 4.3, Table 2 and Figure 4. Data: UTKFace, "
            "Zhang, Song and Qi, Age Progression/Regression by Conditional Adversarial "
            "Autoencoder (CVPR 2017), for research that is not commercial."
        ),
        published=PUBLISHED if backbone is None else {},
    )
    return heads.run(bank, rows, settings, workspace, framing, progress)


def _features(
    faces: Faces, backbone: Backbone, size: int, device: torch.device, cache: Path, progress: bool
) -> np.ndarray:
    paths: pd.Series = faces.frame["path"]

    def extract(first: int, last: int) -> np.ndarray:
        batches = [
            _of_images(list(paths[start : min(start + _BATCH, last)]), backbone, size, device)
            for start in range(first, last, _BATCH)
        ]
        return np.concatenate(batches)

    with Steps(len(paths), progress) as steps:
        return cached_features(
            list(faces.frame["sha256"]),
            f"{backbone.fingerprint} bicubic {size} mean {backbone.mean} std {backbone.std}",
            extract,
            cache,
            steps.stage(f"features of {len(paths)} images", len(paths)),
        )


def _of_images(
    paths: list[Path], backbone: Backbone, size: int, device: torch.device
) -> np.ndarray:
    """Features of image files; not numbers for those that cannot be read."""
    images = [read_image(path, size) for path in paths]
    blank = torch.zeros(3, size, size)
    read = torch.stack([blank if image is None else image for image in images])
    features = backbone.features(read, device).float().numpy()
    readable = np.array([image is not None for image in images])
    if not np.isfinite(features[readable]).all():
        raise DataError(f"The backbone {backbone.name} gives features that are not finite.")
    return np.where(readable[:, None], features, np.nan)


def _unreadable(readable: np.ndarray) -> tuple[str, ...]:
    count = int((~readable).sum())
    return (f"Left out, because they cannot be read as JPEG: {count}.",) if count else ()
