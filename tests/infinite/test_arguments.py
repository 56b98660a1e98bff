"""Arguments that make no sense are refused in one sentence, before any work."""

import re

import numpy as np
import pytest
import torch
from networks import Elementwise
from torch import nn

import farfield as ff
from farfield.errors import FarfieldWarning, SettingsError

X = torch.tensor([[0.7, -1.3, 0.4], [-0.2, 0.9, 1.1]], dtype=torch.float64)


@pytest.fixture
def model() -> nn.Module:
    return ff.mlp(3, [4], 1)


def refused(message: str, run) -> None:
    with pytest.raises(SettingsError, match=message):
        run()


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.numpy(), r"numpy\.ndarray\. Convert it, such as with torch\.from_numpy\(x\)"),
        (X.tolist(), r"of type list\. Convert it.*torch\.tensor\(x\)"),
        (None, r"of type NoneType"),
        (X[:, 0], r"shape \(2,\); they must be \(n, features\)\. Use x\[:, None\]"),
        (X[0, 0], r"shape \(n, \*features\)"),
        (X[:, :0], r"shape \(2, 0\), so no features"),
    ],
)
def test_inputs(model, x, message) -> None:
    limit = ff.infinite_width(model, 1.5, 0.2)
    for run in (limit, limit.ntk, limit.nngp, limit.diagonal, limit.ntk.diagonal):
        refused(message, lambda run=run: run(x))
    refused(message, lambda: ff.monte_carlo(model, x))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("what", ["weight_var", "bias_var"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2.0", "'2.0'"),
        ([2.0], "[2.0]"),
        (True, "True"),
        (1j, "1j"),
        (np.ones(1), "array([1.])"),
        (torch.ones(2), "a tensor of shape (2,)"),
        (torch.ones((), dtype=torch.complex64), "a tensor of shape ()"),
        (torch.tensor(True), "a tensor of shape ()"),
        (-1.0, "-1.0; a variance must be finite and at least 0"),
        (torch.tensor(-1.0), "-1.0; a variance must be finite"),
        (float("nan"), "nan; a variance must be finite"),
        (float("inf"), "inf; a variance must be finite"),
    ],
)
def test_variances(model, what, value, found) -> None:
    refused(rf"^{what} is {re.escape(found)}", lambda: ff.infinite_width(model, **{what: value}))
    named = {"0": 1.0, "2": value}
    refused(
        rf"^{what}\['2'\] is {re.escape(found)}",
        lambda: ff.monte_carlo(model, X, **{what: named}),
    )


@pytest.mark.usefixtures("as_users_run_it")
def test_names_of_variances(model) -> None:
    refused(r"weight_var\['0'\] is None", lambda: ff.infinite_width(model, {"0": None}))
    refused("bias_var names 0, which", lambda: ff.infinite_width(model, 1.0, {0: 2.0, "x": 1.0}))


@pytest.mark.parametrize(
    "two", [2, np.float32(2), np.int64(2), torch.tensor(2), torch.tensor([2.0]), torch.tensor(2.0)]
)
@pytest.mark.usefixtures("as_users_run_it")
def test_any_spelling_of_a_number_has_all_digits(model, two) -> None:
    one = ff.infinite_width(model, 2.0, 2.0).ntk(X)
    other = ff.infinite_width(model, two, {"0": two, "2": 2.0}).ntk(X)
    torch.testing.assert_close(one, other, rtol=1e-15, atol=0.0)


@pytest.mark.usefixtures("as_users_run_it")
def test_the_pair_of_places_to_write(model) -> None:
    limit = ff.infinite_width(model, 1.5, 0.2)
    place = torch.empty(2, 2, dtype=torch.float64)
    for out in (place, (place,), place.numpy()):
        refused("out must be a pair of matrices", lambda out=out: limit(X, out=out))
    refused("out shares memory", lambda: limit(X, out=(place, place)))
    # Side by side in one matrix is no overlap.
    both = torch.empty(2, 4, dtype=torch.float64)
    limit(X, out=(both[:, ::2], both[:, 1::2]))
    for part, value in zip((both[:, ::2], both[:, 1::2]), limit(X), strict=True):
        assert torch.equal(part, value)


def functional(x: torch.Tensor) -> torch.Tensor:
    return x


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_models_that_cannot_be_read(model) -> None:
    inside = nn.Sequential(nn.Linear(3, 3), torch.jit.script(model))
    for bad, message in [
        (functional, "of type function; it must be a torch.nn.Module"),
        (nn.Linear, "of type type"),
        (torch.jit.script(model), r"The model is scripted or traced \(RecursiveScriptModule\)"),
        (torch.jit.trace(model, X.float()), r"The model is scripted or traced"),
        (inside, "The module '1' is scripted"),
    ]:
        refused(message, lambda bad=bad: ff.infinite_width(bad))
        refused(message, lambda bad=bad: ff.monte_carlo(bad, X))


def test_lazy_modules_are_not_materialised() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(1))
    message = r"'0' \(LazyLinear\) has parameters without a shape; run one forward pass"
    refused(message, lambda: ff.infinite_width(model))
    refused(message, lambda: ff.monte_carlo(model, X))
    assert isinstance(model[0], nn.LazyLinear)
    model(X.float())
    limit = ff.infinite_width(model)
    limit.ntk(X)
    model.append(nn.LazyLinear(1))
    refused(r"'3' \(LazyLinear\)", lambda: limit.ntk(X))
    assert isinstance(model[3], nn.LazyLinear)


def test_a_compiled_model_is_read_as_it_was_written(model) -> None:
    expected = ff.infinite_width(model, {"0": 1.5}, 0.2).ntk(X)
    read = ff.infinite_width(torch.compile(model, backend="eager"), {"0": 1.5}, 0.2)
    assert torch.equal(read.ntk(X), expected)
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    drawn = [
        ff.monte_carlo(m, X, draws=2, generator=seed).ntk
        for m, seed in zip((model, torch.compile(model, backend="eager")), seeds, strict=True)
    ]
    assert torch.equal(*drawn)
    model.compile(backend="eager")
    assert torch.equal(ff.infinite_width(model, {"0": 1.5}, 0.2).ntk(X), expected)
    softmax = nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1))
    softmax.compile(backend="eager")
    with pytest.raises(ff.errors.UnsupportedOperation, match=r"In module '1' \(Softmax\)"):
        ff.infinite_width(softmax).ntk(X)


def test_a_model_without_parameters_has_no_tangent_kernel() -> None:
    limit = ff.infinite_width(nn.Identity())
    torch.testing.assert_close(limit.nngp(X), X @ X.T / 3)
    with pytest.warns(FarfieldWarning, match=r"\(Identity\) has no parameters, so its tangent"):
        assert (limit.ntk(X) == 0).all()
    # To freeze all parameters is a choice.
    frozen = nn.Linear(3, 1).requires_grad_(False)
    assert (ff.infinite_width(frozen).ntk(X) == 0).all()


def test_the_warning_is_not_given_for_a_part() -> None:
    assert ff.infinite_width(Elementwise(torch.relu)).nngp(X).shape == (2, 2)
