"""Posteriors in files of numbers: safetensors with a JSON header, without pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from farfield import files
from farfield.empirical.inputs import Inputs, mapped, tensors_of
from farfield.empirical.outputs import OutputChoice
from farfield.errors import DataError, MissingExtraError
from farfield.regression.solve import Factor
from farfield.uncertainty.exact import ExactPosterior
from farfield.uncertainty.fitting import Posterior
from farfield.uncertainty.nystrom import NystromPosterior, Stop
from farfield.uncertainty.subspace import Subspace

_HEADER = "farfield.LinearizedLaplace"
_FORMAT = 1
_Own = dict[str, Any]  # what JSON can hold of a posterior


@dataclass(frozen=True)
class Header:
    """What JSON can hold beside a posterior.

    Attributes:
        model: The fingerprint of the network.
        loss: Of the network on the training data.
        numbers: Outputs of all samples together.
        likelihood: As of the class, like all that follow.
        method: Likewise.
        prior_precision: Likewise.
        noise_var: Likewise.
        inducing: Likewise.
        features: Likewise.
        seed: Likewise.
        output: Likewise.
        dtype: Likewise; the name of one of torch's.
    """

    model: str
    loss: float
    numbers: int
    likelihood: str
    method: str
    prior_precision: float
    noise_var: float
    inducing: int
    features: int
    seed: int
    output: OutputChoice
    dtype: str

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the class."""
        own = asdict(self) | {"dtype": getattr(torch, self.dtype)}
        return {name: own[name] for name in own if name not in ("model", "loss", "numbers")}


def write(path: Path, header: Header, posterior: Posterior) -> None:
    """Write a posterior, completely or not at all.

    Args:
        path: The file.
        header: What is kept beside it.
        posterior: The numbers.

    Raises:
        MissingExtraError: The library safetensors is not installed.
        OutputError: The file cannot be written.
    """
    _library()
    from safetensors.torch import save

    own, tensors = _packed(posterior)
    text = json.dumps({"format": _FORMAT, **asdict(header), "posterior": own})
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write_bytes(path, save(plain, {_HEADER: text}))


def read(path: Path, device: torch.device) -> Posterior:
    """Read the numbers of a posterior, of whose header one approves.

    Args:
        path: The file.
        device: Where the model is.

    Returns:
        The posterior.

    Raises:
        DataError: There is no such file, or it is something else.
        MissingExtraError: The library safetensors is not installed.
    """
    found = _description(path)
    from safetensors.torch import load_file

    tensors = load_file(path)
    with _complete(path):
        return _unpacked(found["posterior"], tensors, device)


def read_header(path: Path) -> Header:
    """Read what is kept beside a posterior.

    Raises:
        DataError: There is no such file, or it is something else.
        MissingExtraError: The library safetensors is not installed.
    """
    found = _description(path)
    with _complete(path):
        return Header(**{field.name: found[field.name] for field in fields(Header)})


def _description(path: Path) -> dict[str, Any]:
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
    with _complete(path):
        found: dict[str, Any] = json.loads(text)
        if found["format"] != _FORMAT:
            raise DataError(
                f"{path} has format {found['format']}, and this version of farfield reads "
                f"{_FORMAT}; use the version that wrote it, or fit and save again."
            )
    return found


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    """Say of which file something is missing."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise DataError(f"The header of {path} is no JSON: {error}. Fit and save again.") from error
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not complete: it lacks {error}. Fit and save again.") from error


def _library() -> None:
    try:
        import safetensors  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "Saving and loading posteriors needs the library safetensors; install it with "
            "pip install 'farfield[safetensors]'."
        ) from error


def _packed(posterior: Posterior) -> tuple[_Own, dict[str, Tensor]]:
    if isinstance(posterior, ExactPosterior):
        factor = posterior.factor
        tensors = {
            "packed": torch.from_numpy(factor.packed.T),
            "diagonal": torch.from_numpy(posterior.diagonal),
        }
        if posterior.roots is not None:
            tensors["roots"] = posterior.roots
        own: _Own = {
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
    kept: _Own = {
        "seen": posterior.seen,
        "samples": posterior.samples,
        "search": [asdict(stop) for stop in posterior.search],
        "directions": len(subspace.directions),
        "inputs": _names(subspace.inducing),
    }
    return kept, tensors | _columns(subspace.inducing)


def _unpacked(own: _Own, tensors: Mapping[str, Tensor], device: torch.device) -> Posterior:
    here = {name: tensor.to(device) for name, tensor in tensors.items() if name != "packed"}
    inputs = _inputs(own["inputs"], here)
    if "packed" in tensors:
        diagonal = here["diagonal"].cpu().numpy()
        ridge = np.full(len(diagonal), own["ridge"])
        factor = Factor(tensors["packed"].numpy().T, diagonal + ridge, ridge)
        roots = here["roots"].cpu() if "roots" in here else None
        return ExactPosterior(inputs, roots, factor, diagonal, own["rounding"])
    directions = tuple(here[f"direction {place}"] for place in range(own["directions"]))
    subspace = Subspace(directions, inputs, here["chosen"], here["values"])
    search = tuple(Stop(**stop) for stop in own["search"])
    return NystromPosterior(
        subspace, here["gram"], here["everything"], own["seen"], own["samples"], search
    )


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
