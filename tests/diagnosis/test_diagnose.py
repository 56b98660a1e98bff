"""Verdicts, the whole diagnosis, and what it must not do."""

import copy
import dataclasses
import json
import math

import pytest
import torch
from torch import nn

import farfield as ff
from farfield.diagnosis import Dispersion, Gradients, Training
from farfield.diagnosis.verdict import LAZY, RANDOM, verdict
from farfield.errors import RangeError, SettingsError, UnsupportedOperation

FIXED = Dispersion(1.02, (1.01, 1.03), None, "", 0.0, 0.1, 0.0, 0.01, False, 200, 0)
CRITICAL = Gradients("critical", 0.0, (-0.1, 0.1), ("a", "b", "c"), (1.0, 1.0, 1.0))
LAZILY = Training(100, 1e-3, 1.0, 0.1, LAZY / 2, 0.01)


@pytest.mark.parametrize(
    ("spread", "flow", "training", "words", "number"),
    [
        ({"value": RANDOM}, {}, {}, "kernel random at initialisation", "1.1"),
        ({"value": 9.0, "heavy_tailed": True}, {}, {}, "one draw says little", "tails are heavy"),
        ({}, {"phase": "exploding", "slope": 3.0}, {}, "exploding", "10^2.6"),
        ({}, {"phase": "vanishing", "slope": -3.0}, {}, "vanishing", "10^-2.6"),
        ({}, {"phase": "vanishing", "slope": -math.inf}, {}, "vanishing", "No gradient gets below"),
        ({}, {}, None, "NTK regime at initialisation", "give targets"),
        ({}, {}, {"change": 0.3}, "trainable but not lazy", "0.3"),
        ({}, {}, {"change": 0.3, "loss_after": 2.0}, "not lazy: the kernel changes", "0.3"),
        ({}, {}, {"loss_after": math.inf, "change": math.inf}, "not lazy: the kernel", "inf"),
        ({}, {}, {"loss_after": 0.95}, "too short", "0.95"),
        ({}, {}, {}, "NTK regime", "0.05"),
    ],
)
def test_the_first_thing_that_fails_decides(spread, flow, training, words, number) -> None:
    told, reason = verdict(
        dataclasses.replace(FIXED, **spread),
        dataclasses.replace(CRITICAL, **flow),
        None if training is None else dataclasses.replace(LAZILY, **training),
    )
    assert words in told
    assert number in reason


X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


def test_three_networks_three_verdicts() -> None:
    wide = ff.gaussian_init_(ff.mlp(4, [256], 1), 2.0, 0.01)
    assert ff.diagnose(wide, X, draws=10).verdict == "NTK regime at initialisation"
    deep = ff.gaussian_init_(ff.mlp(4, [12] * 6, 1), 2.5, 0.0)
    told = ff.diagnose(deep, X, draws=30)
    assert told.verdict == "kernel random at initialisation: one draw says little"
    assert told.dispersion.predicted == pytest.approx(
        ff.theory.ntk_moments([4, *[12] * 6, 1], 2.5, input_norm=2.0).dispersion, rel=0.2
    )
    assert told.depth == 7
    assert told.depth_to_width == pytest.approx(6 / 12)
    assert told.agreement.correlation is not None
    small = ff.gaussian_init_(ff.mlp(4, [100, 100], 1), 0.2, 0.0)
    assert "vanishing" in ff.diagnose(small, X, draws=10).verdict


def test_training_decides_last() -> None:
    model = ff.gaussian_init_(ff.mlp(4, [400], 3), 2.0, 0.01)
    told = ff.diagnose(model, X, torch.arange(12) % 3, draws=10, steps=20, learning_rate=0.05)
    assert told.training is not None
    assert "not lazy" in told.verdict
    assert "loss" in set(told.table()["quantity"])


def test_everything_is_told_and_can_be_written() -> None:
    model = ff.gaussian_init_(ff.mlp(4, [16], 1), 2.0, 0.01)
    told = ff.diagnose(model, X, X[:, 0], draws=5, steps=3)
    text = str(told)
    assert text == repr(told)
    for word in ("dispersion", "predicted", "gradients", "correlation", "change of the kernel"):
        assert word in text
    plain = json.loads(json.dumps(told.as_dict(), allow_nan=False))
    assert plain["dispersion"]["value"] == told.dispersion.value
    assert plain["training"]["change"] == told.training.change
    assert len(told.log_kernels) == 5
    broken = dataclasses.replace(told, depth_to_width=math.inf)
    assert broken.as_dict()["depth_to_width"] is None


def test_the_same_seed_gives_the_same_diagnosis() -> None:
    model = ff.mlp(4, [8, 8], 1)
    first, again = (ff.diagnose(model, X, draws=5, seed=3).as_dict() for _ in range(2))
    assert first == again
    assert ff.diagnose(model, X, draws=5, seed=4).as_dict() != first


def test_nothing_is_changed() -> None:
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)
    ).train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = copy.deepcopy(model.state_dict())
    x, y = X.clone(), X[:, 0].clone()
    state = torch.get_rng_state()
    with torch.no_grad():
        ff.diagnose(model, x, y, draws=3, steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert bool((model[0].weight.grad == 1).all())
    assert model[4].weight.grad is None
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(x, X)


def test_progress_is_told() -> None:
    stages = {}

    def progress(name, steps):
        def done(count):
            stages[name] = (count, steps)

        return done

    ff.diagnose(ff.mlp(4, [8, 8], 1), X, X[:, 0], draws=3, steps=2, progress=progress)
    assert stages == {
        "drawing networks": (3, 3),
        "following gradients": (3, 3),
        "comparing kernels": (3, 3),
        "training": (2, 2),
    }


def test_convolutions_and_token_models() -> None:
    image = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    told = ff.diagnose(image, torch.randn(5, 1, 4, 4), draws=4)
    assert told.depth == 2
    words = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 1))
    told = ff.diagnose(words, torch.arange(15).reshape(5, 3) % 9, draws=4)
    assert told.agreement.why_not


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"draws": 1}, "draws is 1"),
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"x": X[:0]}, "must be"),
        ({"x": X * math.nan}, "NaN"),
        ({"x": X[:, :2]}, "does not take inputs of shape"),
        ({"x": [1.0]}, "x is a list"),
        ({"y": [1.0]}, "y is a list"),
        ({"y": X[:3, 0]}, "3 targets for 12 inputs"),
        ({"x": X.to(torch.complex64)}, "x is torch.complex64"),
        ({"y": X[:, 0].to(torch.complex64)}, "y is torch.complex64"),
        ({"x": torch.ones(3, 4, dtype=torch.int64)}, "give x as floats"),
    ],
)
def test_bad_input_is_one_sentence(options, said, as_users_run_it) -> None:
    arguments = {"x": X, **options}
    with pytest.raises(SettingsError, match=said):
        ff.diagnose(ff.mlp(4, [8], 1), arguments.pop("x"), **arguments)


def test_targets_out_of_range_are_refused_before_the_draws() -> None:
    with pytest.raises(RangeError, match=r"inf in torch\.float32; scale"):
        ff.diagnose(ff.mlp(4, [8], 1), X, 1e30 * X[:, 0], draws=10**9)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x):
        return self.linear(x) + torch.rand(1)


def test_random_numbers_in_forward_are_refused_and_given_back() -> None:
    model = Noisy()
    state = torch.get_rng_state()
    with pytest.raises(UnsupportedOperation, match="random numbers"):
        ff.diagnose(model, X, draws=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_attention_and_recurrent_models() -> None:
    # No warning of a slow fallback, and no error of types, of which the first is raised here.
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    x = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert ff.diagnose(layer, x, draws=3).agreement.why_not
    recurrent = nn.GRU(4, 3, batch_first=True)
    with pytest.raises(UnsupportedOperation, match="first dimension must be the batch"):
        ff.diagnose(recurrent, x, draws=3)
