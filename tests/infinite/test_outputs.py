"""Models that return several tensors: the kernel of one of them, or the mean over all units."""

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn

import farfield as ff
from farfield.errors import SettingsError, UnsupportedOperation

X = torch.tensor([[0.7, -1.3, 0.4], [-0.2, 0.9, 1.1], [0.1, 0.0, -2.0]], dtype=torch.float64)


class Heads(nn.Module):
    """A shallow head of one unit and a deep one of three, packed as ``pack`` says."""

    def __init__(self, pack: Callable[..., object], width: int = 4) -> None:
        super().__init__()
        self.trunk, self.inner = nn.Linear(3, width), nn.Linear(width, width)
        self.shallow, self.deep = nn.Linear(width, 1), nn.Linear(width, 3)
        self.pack = pack

    def forward(self, x: torch.Tensor) -> object:
        h = torch.relu(self.trunk(x))
        return self.pack(self.shallow(h), self.deep(torch.erf(self.inner(h))))


def kernels(model: nn.Module, output: int | str | None = None) -> torch.Tensor:
    return torch.stack(ff.infinite_width(model, 1.5, 0.2, output=output)(X))


PACKS = {
    "tuple": (lambda a, b: (a, b), (0, 1)),
    "list": (lambda a, b: [a, b], (0, 1)),
    "mapping": (lambda a, b: OrderedDict(value=a, policy=b), ("value", "policy")),
}


@pytest.mark.parametrize("pack", PACKS)
def test_each_output_and_the_mean_over_units(pack) -> None:
    packed, names = PACKS[pack]
    model = Heads(packed)
    heads = [kernels(Heads(lambda a, b: a)), kernels(Heads(lambda a, b: b))]
    for head, name in zip(heads, names, strict=True):
        assert torch.equal(kernels(model, name), head)
    # One unit of the first kind and three of the second, as if they stood in one tensor.
    mean = (heads[0] + 3 * heads[1]) / 4
    torch.testing.assert_close(kernels(model), mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(
        kernels(Heads(lambda a, b: torch.cat([a, b], -1))), mean, rtol=1e-14, atol=0
    )
    assert not torch.allclose(heads[0], heads[1])


def test_outputs_with_positions() -> None:
    # Three positions of the first output count as three units.
    body = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)).double()

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.flat = body, nn.Linear(6, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.body(x), self.flat(x.flatten(1))

    x = torch.stack([X.T[:2].T, -2.0 * X.T[1:].T])
    limit = ff.infinite_width(Both(), 1.5, 0.2)
    ends = [ff.infinite_width(Both(), 1.5, 0.2, output=name) for name in (0, 1)]
    for mean, along, flat in zip(limit(x), *(end(x) for end in ends), strict=True):
        torch.testing.assert_close(mean, (3 * along + flat) / 4)


def test_monte_carlo_has_the_same_outputs() -> None:
    model = Heads(lambda a, b: {"value": a, "policy": b}, width=64)

    def drawn(output: str | None):
        seed = torch.Generator().manual_seed(0)
        return ff.monte_carlo(model, X, draws=3, output=output, generator=seed)

    mean, value, policy = drawn(None), drawn("value"), drawn("policy")
    torch.testing.assert_close(mean.ntk, (value.ntk + 3 * policy.ntk) / 4)
    torch.testing.assert_close(mean.nngp, (value.nngp + 3 * policy.nngp) / 4)


def test_what_is_no_output_is_named() -> None:
    model = Heads(lambda a, b: {"value": a, "hidden": None, "mask": torch.ones(3)})
    assert kernels(model, "value").shape == (2, 3, 3)
    for run in (lambda: kernels(model), lambda: ff.monte_carlo(model, X, draws=2)):
        with pytest.raises(
            UnsupportedOperation, match=r"output 'hidden' of type NoneType.*output="
        ):
            run()
    with pytest.raises(UnsupportedOperation, match=r"'mask' of type Tensor.*depends on the input"):
        kernels(model, "mask")
    with pytest.raises(SettingsError, match=r"no output 'policy'; .*'value', 'hidden', 'mask'"):
        kernels(model, "policy")
    with pytest.raises(SettingsError, match="no output 1; those it has are 0"):
        kernels(nn.Linear(3, 1), 1)
    with pytest.raises(UnsupportedOperation, match="output of type str"):
        kernels(Heads(lambda a, b: "nothing"))
    with pytest.raises(UnsupportedOperation, match="output of type tuple"):
        kernels(Heads(lambda a, b: ()))
