"""Reading a model, or drawing others like it, leaves no trace in it."""

from collections.abc import Callable

import pytest
import torch
from networks import Residual
from torch import nn

import farfield as ff
from farfield.errors import SettingsError, UnsupportedOperation

X = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Refused(nn.Module):
    """Draws a random number, counts its calls in a buffer, and then does what has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.rand(())
        return self.norm(self.linear(x)).relu()


def trace(model: nn.Module) -> dict[str, object]:
    """All that reading might change."""
    found: dict[str, object] = {"state": {k: v.clone() for k, v in model.state_dict().items()}}
    found["ids"] = [id(p) for p in model.parameters()]
    found["training"] = [module.training for module in model.modules()]
    found["hooks"] = [len(getattr(m, name)) for m in model.modules() for name in HOOKS]
    everywhere = vars(nn.modules.module)
    found["global hooks"] = [
        len(value) for name, value in everywhere.items() if name.startswith("_global_") if value
    ]
    found["requires_grad"] = [p.requires_grad for p in model.parameters()]
    found["gradients"] = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    found["attributes"] = [sorted(vars(module)) for module in model.modules()]
    found["random numbers"] = torch.random.get_rng_state()
    found["dtype and threads"] = (torch.get_default_dtype(), torch.get_num_threads())
    return found


def same(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def reads(model: nn.Module) -> None:
    limit = ff.infinite_width(model)
    limit(X)
    limit.ntk(X.float())
    limit.diagonal(X)


def draws(model: nn.Module) -> None:
    with torch.random.fork_rng():  # what a model draws itself is its own affair there
        ff.monte_carlo(model, X, draws=2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("run", [reads, draws])
@pytest.mark.parametrize(
    "build",
    [
        lambda: Residual().eval(),
        lambda: Residual().train(),  # its dropout drops nothing
        Refused,
        lambda: Refused().eval(),
        lambda: ff.mlp(3, [4, 4], 2).requires_grad_(False),
    ],
)
def test_nothing_changes(build: Callable[[], nn.Module], run) -> None:
    model = build()
    for number, parameter in enumerate(model.parameters()):
        if number % 2:
            parameter.grad = torch.full_like(parameter, 0.5)
    before = trace(model)
    try:
        run(model)
    except (UnsupportedOperation, SettingsError):
        assert isinstance(model, Refused)
    after = trace(model)
    for name, value in before.items():
        assert same(value, after[name]), name


def test_the_comparison_notices() -> None:
    model = Refused()
    before = trace(model)
    model(X.float())
    assert not same(before["state"], trace(model)["state"])
    torch.rand(1)
    assert not same(before["random numbers"], trace(model)["random numbers"])


def test_random_models_are_drawn_in_training_mode_only_where_it_means_nothing() -> None:
    for module, name in [(nn.Dropout(0.5), "Dropout"), (nn.BatchNorm1d(4), "BatchNorm1d")]:
        model = nn.Sequential(nn.Linear(3, 4), module, nn.Linear(4, 1))
        with pytest.raises(SettingsError, match=rf"'1' \({name}\) is in training mode.*eval\(\)"):
            ff.monte_carlo(model, X, draws=2)
        result = ff.monte_carlo(model.eval(), X, draws=2)
        assert result.ntk.dtype == torch.float64
        assert result.ntk.isfinite().all()


def test_a_module_used_twice_keeps_its_buffers() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.full((3,), 2.0, dtype=X.dtype))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    twice = Scale()
    buffer = twice.scale
    ff.infinite_width(nn.Sequential(twice, twice, nn.Linear(3, 1)), 1.0, 0.1).ntk(X)
    assert twice.scale is buffer


def test_a_layer_used_twice_keeps_its_parameters() -> None:
    shared = nn.Linear(3, 3, dtype=X.dtype)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(3, 1, dtype=X.dtype))
    before = shared.weight
    ff.monte_carlo(model, X, draws=2, weight_var=1.0, bias_var=0.1)
    assert shared.weight is before
