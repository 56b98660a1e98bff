"""Posteriors in files of numbers: safetensors with a JSON header, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from farfield import files
from farfield.empirical.inputs import Inputs, mapped, tensors_of
from farfield.errors import DataError, MissingExtraError
from farfield.regression.solve import Factor
from farfield.uncertainty.exact import ExactPosterior
from farfield.uncertainty.fitting import Posterior
from farfield.uncertainty.nystrom import NystromPosterior, Stop
from farfield.uncertainty.subspace import Subspace

_HEADER = "farfield.LinearizedLaplace"
_FORMAT = 1
Header = dict[str, Any]


def write(path: Path, header: Header, posterior: Posterior) -> None:
    """Write a posterior, completely or not at all.

    Args:
        path: The file.
        header: What JSON can hold of it.
        posterior: The numbers.

    Raises:
        MissingExtraError: The library safetensors is not installed.
        OutputError: The file cannot be written.
    """
    _library()
    from safetensors.torch import save

    own, tensors = _packed(posterior)
    text = json.dumps({"format": _FORMAT, **header, "posterior": own})
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write_bytes(path, save(plain, {_HEADER: text}))


def read(path: Path, device: torch.device) -> tuple[Header, Posterior]:
    """Read a posterior.

    Args:
        path: The file.
        device: Where the model is.

    Returns:
        The header and the numbers.

    Raises:
        DataError: There is no such file, or it is something else.
        MissingExtraError: The library safetensors is not installed.
    """
    header = read_header(path)
    from safetensors.torch import load_file

    own, tensors = header.pop("posterior"), load_file(path)
    try:
        posterior = _unpacked(own, tensors, device)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not complete: it lacks {error}. Fit and save again.") from error
    return header, posterior


def read_header(path: Path) -> Header:
    """The header of a file alone.

    Raises:
        DataError: There is no such file, or it is something else.
        MissingExtraError: The library safetensors is not installed.
    """
    _library()
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        with safe_open(path, "pt") as opened:
            text = (opened.metadata() or {}).get(_HEADER)
    except SafetensorError as error:
        raise DataError(f"{path} cannot be read as safetensors: {error}.") from error
    if text is None:
        raise DataError(
            f"{path} holds tensors, but no posterior; give a file that LinearizedLaplace.save has "
            "written."
        )
    header: Header = json.loads(text)
    if header["format"] != _FORMAT:
        raise DataError(
            f"{path} has format {header['format']}, and this version of farfield reads {_FORMAT}; "
            "use the version that wrote it, or fit and save again."
        )
    return header


def _library() -> None:
    try:
        import safetensors  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "Saving and loading posteriors needs the library safetensors; install it with "
            "pip install 'farfield[safetensors]'."
        ) from error


def _packed(posterior: Posterior) -> tuple[Header, dict[str, Tensor]]:
    if isinstance(posterior, ExactPosterior):
        factor = posterior.factor
        tensors = {
            "packed": torch.from_numpy(factor.packed.T),
            "diagonal": torch.from_numpy(posterior.diagonal),
        }
        if posterior.roots is not None:
            tensors["roots"] = posterior.roots
        own: Header = {
            "ridge": float(factor.ridge[0]),
            "rounding": posterior.rounding,
            "inputs": _names(posterior.train),
        }
        return own, tensors | _columns(posterior.train)
    subspace = posterior.subspace
    stacks = enumerate(subspace.directions)
    tensors = {f"direction {place}": stack for place, stack in stacks}
    tensors |= {"gram": posterior.gram, "everything": posterior.everything.clone()}
    tensors |= {"chosen": subspace.chosen, "values": subspace.values}
    header: Header = {
        "seen": posterior.seen,
        "samples": posterior.samples,
        "search": [asdict(stop) for stop in posterior.search],
        "inputs": _names(subspace.inducing),
    }
    return header, tensors | _columns(subspace.inducing)


def _unpacked(own: Header, tensors: Mapping[str, Tensor], device: torch.device) -> Posterior:
    here = {name: tensor.to(device) for name, tensor in tensors.items() if name != "packed"}
    inputs = _inputs(own["inputs"], here)
    if "packed" in tensors:
        diagonal = here["diagonal"].cpu().numpy()
        ridge = np.full(len(diagonal), own["ridge"])
        factor = Factor(tensors["packed"].numpy().T, diagonal + ridge, ridge)
        roots = here["roots"].cpu() if "roots" in here else None
        return ExactPosterior(inputs, roots, factor, diagonal, own["rounding"])
    names = sorted((name for name in here if name.startswith("direction ")), key=_place)
    directions = tuple(here[name] for name in names)
    subspace = Subspace(directions, inputs, here["chosen"], here["values"])
    search = tuple(Stop(**stop) for stop in own["search"])
    return NystromPosterior(
        subspace, here["gram"], here["everything"], own["seen"], own["samples"], search
    )


def _place(name: str) -> int:
    return int(name.removeprefix("direction "))


def _names(inputs: Inputs) -> list[str] | int | None:
    """The names of inputs, how many there are without names, or nothing for a single tensor."""
    if isinstance(inputs, Tensor):
        return None
    return list(inputs) if isinstance(inputs, Mapping) else len(inputs)


def _columns(inputs: Inputs) -> dict[str, Tensor]:
    # Clones, because safetensors refuses tensors that share memory.
    tensors = tensors_of(mapped(inputs, lambda tensor: tensor.clone()))
    return {f"input {place}": tensor for place, tensor in enumerate(tensors)}


def _inputs(names: list[str] | int | None, tensors: Mapping[str, Tensor]) -> Inputs:
    if names is None:
        return tensors["input 0"]
    if isinstance(names, int):
        return tuple(tensors[f"input {place}"] for place in range(names))
    return {name: tensors[f"input {place}"] for place, name in enumerate(names)}
