"""Short digests that tell whether numbers are the same, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The digest of named tensors: their names, shapes, dtypes and numbers.

    Args:
        tensors: Name -> tensor, on any device.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def of_blocks(blocks: Iterable[Tensor]) -> str:
    """The digest of rows that come block by block; how they are cut makes no difference.

    Args:
        blocks: Tensors, one after the other.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(_bytes(block))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous()
    return plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b""
