"""Networks of one architecture, drawn anew as they are initialised."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from farfield.errors import SettingsError
from farfield.infinite.outputs import check_rows, outputs_of
from farfield.networks import InitVariance, init_variance
from farfield.trail import readable

_APART = 2**20  # between the first draws of two seeds


@dataclass(frozen=True, eq=False)
class Stacked:
    """Several networks of one architecture.

    Attributes:
        skeleton: One of them.
        trained: Parameters that are trained, by name, stacked along a first dimension.
        others: Frozen parameters and buffers, likewise.
    """

    skeleton: nn.Module
    trained: dict[str, Tensor]
    others: dict[str, Tensor]


class Draws:
    """Random networks of the user's architecture; the user's own stays as it is.

    A function ``build`` is called again for every draw, unless it seeds itself and gives the same
    network twice; then its network counts as a model. Of a model every module is drawn anew,
    by the first of these that it has: the variances that :func:`farfield.gaussian_init_` remembers;
    its own ``reset_parameters()``; Gaussians as large as the entries of its matrices are now (its
    vectors stay). Modules of which all parameters are frozen stay as they are.

    Args:
        model: A module, or a function without arguments that makes one.
        seed: Of the draws.

    Attributes:
        source: How the networks are drawn, in words.

    Raises:
        SettingsError: Something else, or nothing that is trained.
    """

    def __init__(self, model: object, seed: int) -> None:
        self._seed = seed
        self._devices: list[torch.device] = []
        self._build: Callable[[], nn.Module] | None = None
        if isinstance(model, nn.Module):
            self._original = copy.deepcopy(readable(model))
            self.source = _source(self._original)
        elif callable(model):
            name = getattr(model, "__name__", "the function")
            self._build = model
            self._original = self._made(0)
            self.source = f"by {name}(), called for each draw"
            if _same(self._original, self._made(1)):
                # It seeds itself; its networks are then drawn as those of a model are.
                self._build = None
                self.source = (
                    f"{_source(self._original)}, as {name}() gives the same network at each call"
                )
        else:
            raise SettingsError(
                f"The model is a {type(model).__name__}; give a torch.nn.Module, or a function "
                "without arguments that makes one."
            )
        trained = [p for p in self._original.parameters() if p.requires_grad]
        if not trained:
            raise SettingsError("The model has no parameters that are trained, so no kernel.")
        self.like = trained[0].detach()
        self.size = sum(p.numel() for p in trained)
        self._devices = sorted({p.device for p in trained if p.is_cuda}, key=str)

    def network(self, index: int) -> nn.Module:
        """The network of this number, in eval mode; the same whenever it is asked for."""
        if self._build is not None:
            return self._made(index)
        network = copy.deepcopy(self._original).eval()
        self._draw_(network, index)
        return network

    def stacked(self, numbers: Sequence[int]) -> Stacked:
        """Several networks as stacked tensors.

        Raises:
            SettingsError: The function makes networks of different shapes.
        """
        network = copy.deepcopy(self._original).eval()
        start = {name: value.clone() for name, value in _tensors(network).items()}
        parts: dict[str, list[Tensor]] = {name: [] for name in start}
        for number in numbers:
            if self._build is not None:
                network = self._made(number)
            else:
                with torch.no_grad():
                    for name, value in _tensors(network).items():
                        value.copy_(start[name])
                self._draw_(network, number)
            found = _tensors(network)
            if {n: v.shape for n, v in found.items()} != {n: v.shape for n, v in start.items()}:
                raise SettingsError(
                    "The function that makes the model gives networks of different shapes; draws "
                    "are of one architecture."
                )
            for name, value in found.items():
                parts[name].append(value.clone())
        tensors = {name: torch.stack(values) for name, values in parts.items()}
        trained = {name for name, own in network.named_parameters() if own.requires_grad}
        return Stacked(
            network,
            {name: value for name, value in tensors.items() if name in trained},
            {name: value for name, value in tensors.items() if name not in trained},
        )

    def _draw_(self, network: nn.Module, index: int) -> None:
        with self._seeded(index), torch.no_grad():
            for module in network.modules():
                _draw_(module)

    def _made(self, index: int) -> nn.Module:
        assert self._build is not None
        with self._seeded(index):
            network = self._build()
        return readable(network).eval()

    @contextmanager
    def _seeded(self, index: int) -> Iterator[None]:
        seed = self._seed * _APART + index
        if self._devices:
            with torch.random.fork_rng(devices=self._devices):
                torch.manual_seed(seed)
                yield
            return
        # The same without the seeds of devices that are not used, which take longer than a draw.
        before = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(seed)
            yield
        finally:
            torch.set_rng_state(before)


def side_by_side(result: object, rows: int) -> Tensor:
    """What a network returned as (rows, outputs), those in a tuple or a mapping side by side.

    Raises:
        UnsupportedOperation: One of them is no tensor, or has no row for each input.
    """
    parts = outputs_of(result, None)
    for name, part in parts.items():
        check_rows(name, part, rows, Tensor)
    return torch.cat([part.reshape(rows, -1) for part in parts.values()], 1)


def _same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same parameters, value for value."""
    pairs = zip(one.parameters(), other.parameters(), strict=False)
    return all(a.shape == b.shape and bool((a == b).all()) for a, b in pairs)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    named = (*network.named_parameters(), *network.named_buffers())
    return {name: value.detach() for name, value in named}


def _draw_(module: nn.Module) -> None:
    """Draw a module's own parameters anew."""
    kind = _kind(module)
    if kind == "remembered":
        variance = init_variance(module)
        assert isinstance(variance, InitVariance)
        weight = module.get_parameter("weight")
        weight.normal_(0.0, (variance.weight / weight[0].numel()) ** 0.5)
        if isinstance(module.bias, Tensor):
            module.bias.normal_(0.0, variance.bias**0.5)
    elif kind == "reset":
        module.reset_parameters()  # type: ignore[operator]
    elif kind == "measured":
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter.ndim >= 2:
                parameter.normal_(0.0, float(parameter.square().mean()) ** 0.5)


def _kind(module: nn.Module) -> str | None:
    own = list(module.parameters(recurse=False))
    if not any(parameter.requires_grad for parameter in own):
        return None
    if init_variance(module) is not None:
        return "remembered"
    return "reset" if callable(getattr(module, "reset_parameters", None)) else "measured"


_WORDS = {
    "remembered": "by the variances of gaussian_init_",
    "reset": "by reset_parameters()",
    "measured": "with the variances measured from its entries",
}


def _source(model: nn.Module) -> str:
    """How the matrices are drawn; norms are reset to 1 and 0 in any case."""
    kinds: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        matrix = any(p.ndim >= 2 for p in module.parameters(recurse=False))
        if matrix and (kind := _kind(module)):
            kinds.setdefault(kind, []).append(name or type(module).__name__)
    parts = [
        _WORDS[kind] if len(kinds) == 1 else f"{_WORDS[kind]} ({', '.join(names)})"
        for kind, names in kinds.items()
    ]
    return "; ".join(parts) or "as they are"
