"""The device that a study runs on."""

from __future__ import annotations

import torch

from farfield.errors import SettingsError


def resolve_device(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: ``"auto"`` (a CUDA device if there is one, else the CPU) or a name of PyTorch's.

    Returns:
        A device that works here.

    Raises:
        SettingsError: PyTorch does not know it, or cannot use it on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(
            f"The device {name!r} cannot be used here; choose auto, cpu, or a device that "
            "PyTorch sees on this machine, such as cuda or mps."
        ) from error
    return device
