"""Reading image files as tensors."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.errors import MissingExtraError


def load_pillow() -> ModuleType:
    """Pillow's module ``Image``.

    Returns:
        The module.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            "Pillow, which reads images, is not installed; install it with: "
            "pip install 'farfield[faces]'"
        ) from error
    return Image


def read_image(path: Path, size: int) -> Float[Tensor, "3 size size"] | None:
    """An image as red, green and blue between 0 and 1, brought to a square by bicubic resampling.

    Args:
        path: A JPEG file.
        size: Side of the square in pixels.

    Returns:
        The image; ``None`` for a file that is no JPEG, or is damaged or of excessive size.
    """
    pillow = load_pillow()
    try:
        with pillow.open(path, formats=["JPEG"]) as opened:
            if opened.width * opened.height > pillow.MAX_IMAGE_PIXELS:
                return None
            square = opened.convert("RGB").resize((size, size), pillow.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError):
        return None
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).float() / 255.0
