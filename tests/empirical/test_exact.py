"""Every kind of model: the kernel is that of dense per-sample Jacobians."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import ZOO, Function, N, make, mlp, x

import farfield as ff
from farfield.errors import UnsupportedOperation
from oracles import all_pairs, jacobians

# Rounding of sums of some hundred terms in float64; a wrong term would show at 1e-2.
TOLERANCE = 1e-12


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return ((found - wanted).norm() / wanted.norm().clamp(min=1e-300)).item()


def part(inputs: object, rows: slice) -> object:
    if isinstance(inputs, dict):
        return {name: value[rows] for name, value in inputs.items()}
    return tuple(v[rows] for v in inputs) if isinstance(inputs, tuple) else inputs[rows]


@pytest.mark.parametrize("name", ZOO)
def test_dense_jacobians(name) -> None:
    model, inputs = make(name)
    gradients = jacobians(model, inputs)
    wanted = all_pairs(gradients, gradients)
    kernel = ff.empirical_ntk(model, outputs="full")
    assert error(kernel(inputs), wanted) < TOLERANCE
    mean = ff.empirical_ntk(model)
    first, last = slice(0, 3), slice(1, N)
    means = wanted.diagonal(dim1=1, dim2=3).mean(-1)
    assert error(mean(inputs), means) < TOLERANCE
    found = mean(part(inputs, first), part(inputs, last))
    assert error(found, means[first, last]) < TOLERANCE


@pytest.mark.parametrize("name", ["mlp", "cnn", "vision transformer", "lstm", "tied decoder"])
def test_what_becomes_of_the_outputs(name) -> None:
    model, inputs = make(name)
    gradients = jacobians(model, inputs)
    pairs = all_pairs(gradients, gradients)
    each = pairs.diagonal(dim1=1, dim2=3)
    cases = {
        "mean": each.mean(-1),
        "sum": pairs.sum((1, 3)),
        "diagonal": each,
        "full": pairs,
        1: each[..., 1],
        -1: each[..., -1],
        (0, 1): each[..., :2].mean(-1),
    }
    for outputs, wanted in cases.items():
        kernel = ff.empirical_ntk(model, outputs=outputs)
        found = kernel(inputs)
        assert error(found, wanted) < TOLERANCE, outputs
        own = kernel.diagonal(inputs)
        if found.ndim == 4:
            assert torch.equal(found, found.permute(2, 3, 0, 1))
            assert torch.equal(torch.stack([found[i, :, i] for i in range(N)]), own)
        else:
            assert torch.equal(found, found.transpose(0, 1))
            assert torch.equal(torch.stack([found[i, i] for i in range(N)]), own)
        assert error(kernel(part(inputs, slice(0, 2)), inputs), wanted[:2]) < TOLERANCE


SINGLE = ["mlp", "cnn", "resnet", "transformer encoder", "lstm", "bidirectional gru", "weight norm",
          "tied decoder", "transposed conv2d", "siren", "mixture of experts"]  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_single_precision(name) -> None:
    model, inputs = make(name, torch.float32)
    gradients = jacobians(model, inputs)
    found = ff.empirical_ntk(model, outputs="full")(inputs)
    assert found.dtype == torch.float32
    # Single precision on both sides; sums over some hundred terms that partly cancel.
    assert error(found, all_pairs(gradients, gradients)) < 1e-4


@pytest.mark.parametrize("by", ["parameter", "module"])
@pytest.mark.parametrize("name", ["resnet", "tied decoder", "weight norm", "mixture of experts"])
def test_kernels_by_name(name, by) -> None:
    model, inputs = make(name)
    gradients = jacobians(model, inputs)
    found = ff.empirical_ntk(model, outputs="sum", by=by)
    wanted: dict[str, torch.Tensor] = {}
    for parameter, rows in gradients.items():
        key = parameter if by == "parameter" else parameter.rpartition(".")[0]
        total = rows.sum(1)
        wanted[key] = wanted.get(key, 0) + total @ total.T
    matrices, diagonals = found(inputs), found.diagonal(inputs)
    assert matrices.keys() == wanted.keys() == diagonals.keys()
    scale = sum(wanted.values()).norm()
    for key, matrix in matrices.items():
        assert (matrix - wanted[key]).norm() / scale < TOLERANCE
        assert torch.equal(matrix.diagonal(), diagonals[key])
    whole = ff.empirical_ntk(model, outputs="sum")(inputs)
    assert error(sum(matrices.values()), whole) < TOLERANCE


def test_parameters_that_count() -> None:
    model, inputs = make("vision transformer")
    gradients = jacobians(model, inputs)

    def wanted(condition) -> torch.Tensor:
        some = {name: rows for name, rows in gradients.items() if condition(name)}
        return all_pairs(some, some).diagonal(dim1=1, dim2=3).mean(-1)

    head = ff.empirical_ntk(model, parameters="head")
    assert error(head(inputs), wanted(lambda n: n.startswith("head."))) < TOLERANCE
    two = ff.empirical_ntk(model, parameters=["token", "layer.linear1"])
    condition = lambda n: n == "token" or n.startswith("layer.linear1.")  # noqa: E731
    assert error(two(inputs), wanted(condition)) < TOLERANCE
    biases = ff.empirical_ntk(model, parameters=lambda n, p: p.ndim == 1)
    assert (
        error(
            biases(inputs),
            wanted(
                lambda n: gradients[n].ndim == 3 and dict(model.named_parameters())[n].ndim == 1
            ),
        )
        < TOLERANCE
    )
    model.layer.requires_grad_(False)
    frozen = ff.empirical_ntk(model)(inputs)
    assert error(frozen, wanted(lambda n: not n.startswith("layer."))) < TOLERANCE


def test_ntk_parametrisation() -> None:
    model = ff.gaussian_init_(ff.mlp(3, [6, 5], 2, norm="layer"), 1.7, 0.3).double()
    inputs = x(3).double()
    gradients = jacobians(model, inputs)
    weights = {}
    for name, parameter in model.named_parameters():
        norm = isinstance(model.get_submodule(name.partition(".")[0]), torch.nn.LayerNorm)
        weights[name] = 1.0 if norm else 0.3 if parameter.ndim == 1 else 1.7 / parameter.shape[1]
    found = ff.empirical_ntk(model, outputs="full", parameterization="ntk")(inputs)
    assert error(found, all_pairs(gradients, gradients, weights)) < TOLERANCE
    given = ff.empirical_ntk(
        model, outputs="full", parameterization="ntk", weight_var={"0": 4.0}, bias_var=0.0
    )
    for name, parameter in model.named_parameters():
        if weights[name] == 0.3:
            weights[name] = 0.0
        if name == "0.weight":
            weights[name] = 4.0 / parameter.shape[1]
    assert error(given(inputs), all_pairs(gradients, gradients, weights)) < TOLERANCE


def test_one_and_two_samples() -> None:
    for name in ("mlp", "transformer encoder, positions first", "lstm", "mixture of experts"):
        model, inputs = make(name)
        gradients = jacobians(model, inputs)
        wanted = all_pairs(gradients, gradients)
        kernel = ff.empirical_ntk(model, outputs="full")
        for size in (1, 2):
            found = kernel(part(inputs, slice(0, size)))
            assert error(found, wanted[:size, :, :size]) < TOLERANCE


def test_duplicate_huge_and_tiny_inputs() -> None:
    model, _ = make("mlp")
    points = x(3).double()
    points = torch.cat([points, points[:1], points * 1e30, points * 1e-30, 0 * points[:1]])
    gradients = jacobians(model, points)
    wanted = all_pairs(gradients, gradients).diagonal(dim1=1, dim2=3).mean(-1)
    found = ff.empirical_ntk(model)(points)
    size = wanted.diagonal().sqrt()
    assert ((found - wanted) / size.outer(size)).abs().max() < TOLERANCE
    values = torch.linalg.eigvalsh(found / size.outer(size))
    assert values[0] > -1e-12 * values[-1]


def test_sequences_of_different_lengths() -> None:
    model, _ = make("tied decoder")
    short, long = torch.randint(7, (5, 2)), torch.randint(7, (6, 4))
    left, right = jacobians(model, short), jacobians(model, long)
    found = ff.empirical_ntk(model, outputs="full")(short, long)
    assert error(found, all_pairs(left, right)) < TOLERANCE


def test_blocks_that_take_different_ways() -> None:
    # The rows all take one expert, the columns both: their gradients have different forms.
    model, _ = make("mixture of experts")
    rows, columns = x(3).double().abs(), x(3).double()
    columns[0, 0], columns[1, 0] = 1.0, -1.0
    left, right = jacobians(model, rows), jacobians(model, columns)
    found = ff.empirical_ntk(model, outputs="full")(rows, columns)
    assert error(found, all_pairs(left, right)) < TOLERANCE


def test_signals_that_only_other_samples_show() -> None:
    # The first samples tell nothing of where the samples stand behind the closed gate.
    gated = Function(
        lambda m, h: m.b(torch.relu(m.a(h.transpose(0, 1)))).sum(0),
        a=torch.nn.Linear(3, 4),
        b=torch.nn.Linear(4, 2),
    ).double()
    torch.nn.init.constant_(gated.a.weight, 1.0)
    torch.nn.init.constant_(gated.a.bias, 0.0)
    inputs = torch.rand(9, 5, 3, dtype=torch.float64)
    inputs[:5] *= -1
    gradients = jacobians(gated, inputs)
    kernel = ff.empirical_ntk(gated, outputs="full")
    assert error(kernel(inputs), all_pairs(gradients, gradients)) < TOLERANCE
    assert any("told nothing" in entry.way for entry in kernel.explain(inputs))


def test_checkpointing() -> None:
    net = mlp(torch.nn.LayerNorm).double()
    saving = Function(lambda m, h: checkpoint(m.net, h, use_reentrant=False), net=net)
    inputs = x(3).double()
    gradients = jacobians(net, inputs)
    found = ff.empirical_ntk(saving, outputs="full")(inputs)
    assert error(found, all_pairs(gradients, gradients)) < TOLERANCE


def test_rules_that_are_wrong_are_noticed(monkeypatch) -> None:
    from farfield.empirical.rules.table import RULES, spread

    monkeypatch.setitem(RULES, "NativeLayerNorm", lambda case: spread(case, 2.0))
    model, inputs = make("layer norm")
    gradients = jacobians(model, inputs)
    kernel = ff.empirical_ntk(model, outputs="full")
    assert error(kernel(inputs), all_pairs(gradients, gradients)) < TOLERANCE
    ways = {entry.parameter: entry.way for entry in kernel.explain(inputs)}
    assert ways["1.weight"] == "sample by sample: a rule disagreed with autograd"
    assert ways["0.weight"] != ways["1.weight"]


def test_samples_that_interact_are_refused() -> None:
    cases = [
        lambda m, h: m.net(h) - m.net(h).mean(0),
        lambda m, h: torch.softmax(m.net(h) @ m.net(h).T, 1) @ m.net(h),
        lambda m, h: m.net(h) * h.norm(),
        lambda m, h: m.net(h).flip(0) + m.net(h),
        lambda m, h: m.net(h - h.mean(0)),
        lambda m, h: torch.nn.functional.batch_norm(m.net(h), None, None, training=True),
    ]
    for function in cases:
        model = Function(function, net=mlp()).double()
        with pytest.raises(UnsupportedOperation, match="depend on the other inputs"):
            ff.empirical_ntk(model)(x(3).double())


def test_gradients_written_out_as_signals_come_back() -> None:
    conv = nn.Conv2d(1, 3, 3, padding=1)
    layers = [conv, nn.Tanh(), nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.Tanh()]
    model = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 15)).double()
    inputs = x(1, 8, 8).double()
    gradients = jacobians(model, inputs)
    for outputs in ("full", "diagonal", "mean"):
        kernel = ff.empirical_ntk(model, outputs=outputs)
        found = kernel(inputs)
        # 9 columns at 64 positions, so that the first layer need not keep its signals.
        block = kernel._engine.gradients(inputs).block
        assert len(block.written) == 2
        pairs = all_pairs(gradients, gradients)
        each = pairs.diagonal(dim1=1, dim2=3)
        wanted = {"full": pairs, "diagonal": each, "mean": each.mean(-1)}[outputs]
        assert error(found, wanted) < TOLERANCE
        own = kernel.diagonal(inputs)
        assert torch.equal(own[1], found[1, :, 1] if outputs == "full" else found[1, 1])
    small = ff.empirical_ntk(model, outputs=[0])  # one direction has nothing to gain
    small(inputs)
    assert not small._engine.gradients(inputs).block.written


@pytest.mark.parametrize("channels", [8, 24])  # parameters put together, and alone
def test_ntk_parametrisation_where_gradients_are_written_out(channels) -> None:
    model = nn.Sequential(
        nn.Conv2d(2, channels, 3, padding=1), nn.Tanh(), nn.Conv2d(channels, 12, 3), nn.Flatten()
    ).double()
    inputs, weights = x(2, 6, 6).double(), {"0.weight": 2 / 18, "2.weight": 2 / (9 * channels)}
    weights |= {"0.bias": 0.1, "2.bias": 0.1}
    gradients = jacobians(model, inputs)
    found = ff.empirical_ntk(model, "sum", parameterization="ntk", weight_var=2.0, bias_var=0.1)
    ways = {entry.way for entry in found.explain(inputs)}
    assert "per-sample gradients" in ways
    wanted = sum(weights[name] * rows.sum(1) @ rows.sum(1).T for name, rows in gradients.items())
    assert error(found(inputs), wanted) < TOLERANCE
    assert error(found.diagonal(inputs), wanted.diagonal()) < TOLERANCE
