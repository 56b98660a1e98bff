"""Networks of one architecture, drawn anew as they are initialised."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from farfield.errors import SettingsError
from farfield.networks import InitVariance, init_variance
from farfield.reading import readable

_APART = 2**20  # between the first draws of two seeds


class Draws:
    """Random networks of the user's architecture; the user's own stays as it is.

    A function ``build`` is called again for every draw. Of a model every module is drawn anew,
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

    def __init__(self, model: nn.Module | Callable[[], nn.Module], seed: int) -> None:
        self._seed = seed
        self._devices: list[torch.device] = []
        if isinstance(model, nn.Module):
            self._build = None
            self._original = copy.deepcopy(readable(model))
            self.source = _source(self._original)
        elif callable(model):
            self._build = model
            self._original = self._made(0)
            self.source = f"by {getattr(model, '__name__', 'the function')}(), called for each draw"
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
            network = self._made(index)
        else:
            network = copy.deepcopy(self._original)
            with self._seeded(index), torch.no_grad():
                for module in network.modules():
                    _draw_(module)
        return network.eval()

    def _made(self, index: int) -> nn.Module:
        assert self._build is not None
        with self._seeded(index):
            network = self._build()
        return readable(network).eval()

    @contextmanager
    def _seeded(self, index: int) -> Iterator[None]:
        with torch.random.fork_rng(devices=self._devices):
            torch.manual_seed(self._seed * _APART + index)
            yield


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
