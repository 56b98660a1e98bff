"""What means nothing is refused with what was found, what is allowed and what to do."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import farfield as ff
from farfield.errors import DataError, RangeError, SettingsError, UnsupportedOperation
from farfield.uncertainty.settings import check_counts

pytestmark = pytest.mark.usefixtures("as_users_run_it")
X = torch.randn(6, 2)
REAL, CLASSES = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])


def model() -> nn.Module:
    return ff.mlp(2, [4], 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"likelihood": "poisson"}, "choose 'regression' or 'classification'"),
        ({"method": "kfac"}, "choose 'exact' or 'nystrom'"),
        ({"prior_precision": 0.0}, "prior_precision is 0.0; it must be positive"),
        ({"prior_precision": float("nan")}, "prior_precision is nan"),
        ({"noise_var": -1.0}, "noise_var is -1.0"),
        ({"likelihood": "classification", "noise_var": 0.5}, "classes have no noise"),
        ({"inducing": 0}, "inducing is 0"),
        ({"features": 0}, "features is 0"),
        ({"memory": "lots"}, "memory is 'lots'"),
        ({"dtype": torch.float16}, "dtype is torch.float16"),
    ],
)
def test_settings(settings, message) -> None:
    with pytest.raises(SettingsError, match=message):
        ff.LinearizedLaplace(model(), **{"likelihood": "regression", **settings})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (nn.Sequential(nn.Linear(2, 3), nn.Dropout()), "drops units at random"),
        (model().requires_grad_(False), "none with requires_grad=True"),
    ],
)
def test_models(broken, message) -> None:
    with pytest.raises(SettingsError, match=message):
        ff.LinearizedLaplace(broken, "regression")


@pytest.mark.parametrize("method", ["exact", "nystrom"])
@pytest.mark.parametrize(
    ("likelihood", "data", "error", "message"),
    [
        ("regression", X, SettingsError, r"give a pair \(x, y\)"),
        ("regression", (X, [1, 2]), SettingsError, "targets are of type list"),
        ("regression", (X, REAL[:5]), SettingsError, "same number of samples"),
        ("regression", (X, REAL[:, :2]), SettingsError, "2 targets for each sample"),
        ("regression", (X[:0], REAL[:0]), SettingsError, "hold no samples"),
        ("regression", (X / 0.0, REAL), SettingsError, "12 of the 12 numbers of the inputs"),
        ("regression", (X, REAL / 0.0), DataError, "18 of the 18 targets are NaN or infinite"),
        ("regression", (X.tolist(), REAL), SettingsError, "An input is of type list; give tensors"),
        ("regression", ({"x": [1]}, REAL), SettingsError, "An input is of type list; give tensors"),
        ("classification", (X, REAL), SettingsError, "give the index of the class"),
        ("classification", (X, CLASSES + 1), SettingsError, "go from 0 to 2"),
        ("classification", (X, CLASSES - 1), SettingsError, "between -1 and 1"),
        (
            "classification",
            DataLoader(TensorDataset(X, CLASSES), shuffle=True),
            SettingsError,
            "shuffle=False",
        ),
    ],
)
def test_data(method, likelihood, data, error, message) -> None:
    la = ff.LinearizedLaplace(model(), likelihood, method=method)
    with pytest.raises(error, match=message):
        la.fit(data)


def test_single_outputs_dead_networks_and_samples_that_interact() -> None:
    single = ff.mlp(2, [4], 1)
    with pytest.raises(SettingsError, match="at least two"):
        ff.LinearizedLaplace(single, "classification").fit((X, CLASSES.clamp(max=1)))
    dead = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    nn.init.constant_(dead[0].bias, -1e3)
    la = ff.LinearizedLaplace(dead, "regression", method="nystrom")
    with pytest.raises(RangeError, match="gradients of all inducing samples are zero"):
        la.fit((X, REAL))
    with pytest.raises(RangeError, match="change with no parameter"):
        ff.LinearizedLaplace(dead, "regression").fit((X, REAL)).novelty(X)

    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) - self.layer(x).mean(0)

    for method in ("exact", "nystrom"):
        with pytest.raises(UnsupportedOperation, match="depend on the other inputs"):
            ff.LinearizedLaplace(Mixing(), "regression", method=method).fit((X, REAL))


def test_too_large_for_the_exact_posterior() -> None:
    x = torch.zeros(30_000, 2)
    with pytest.raises(SettingsError, match="Use method='nystrom'"):
        ff.LinearizedLaplace(model(), "regression").fit((x, torch.zeros(30_000, 3)))


def test_calls_in_the_wrong_order_or_with_the_wrong_words() -> None:
    la = ff.LinearizedLaplace(model(), "classification")
    for use in (
        lambda: la.predict(X),
        lambda: la.novelty(X),
        lambda: la.save("nowhere"),
        la.log_marginal_likelihood,
        la.tune,
    ):
        with pytest.raises(SettingsError, match="call fit"):
            use()
    with pytest.raises(SettingsError, match="method='nystrom'"):
        la.fit((X, CLASSES), validation=(X, CLASSES))
    with pytest.raises(SettingsError, match="search is 0"):
        la.fit((X, CLASSES), search=0)
    with pytest.raises(SettingsError, match="choose 'probit' or 'monte_carlo'"):
        la.fit((X, CLASSES), link="bridge")
    la.fit((X, CLASSES))
    with pytest.raises(SettingsError, match="choose 'probit' or 'monte_carlo'"):
        la.predict(X, link="bridge")
    with pytest.raises(SettingsError, match="samples is 0"):
        la.predict(X, link="monte_carlo", samples=0)
    with pytest.raises(SettingsError, match="no inputs to predict at"):
        la.predict(X[:0])
    for by, validation in (("validation", None), ("marginal_likelihood", (X, CLASSES)), ("", None)):
        with pytest.raises(SettingsError, match="choose by='marginal_likelihood'"):
            la.tune(by=by, validation=validation)
    with pytest.raises(SettingsError, match="choose 'probit' or 'monte_carlo'"):
        la.tune(by="validation", validation=(X, CLASSES), link="bridge")
    with pytest.raises(SettingsError, match=r"features is 2.5; it must be an integer"):
        check_counts(features=2.5)
    small = ff.LinearizedLaplace(model(), "classification", memory="1MB").fit((X, CLASSES))
    with pytest.raises(SettingsError, match="give fewer, or memory"):
        small.tune(by="validation", validation=(X.repeat(1000, 1), CLASSES.repeat(1000)))


def other_statistics(net: nn.Module) -> None:
    net[1].running_mean += 1.0


def other_weights(net: nn.Module) -> None:
    net[0].weight.data.mul_(2.0)  # which leaves no trace in the version of the tensor


@pytest.mark.parametrize("change", [other_statistics, other_weights, nn.Module.double])
@pytest.mark.parametrize("method", ["exact", "nystrom"])
def test_models_that_have_changed(method, change) -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval()
    la = ff.LinearizedLaplace(net, "regression", method=method).fit((X, REAL))
    before, weights = la.predict(X).std, copy.deepcopy(net.state_dict())
    net.load_state_dict(weights)  # the same are no change, nor is a copy of all
    assert torch.equal(copy.deepcopy(la).predict(X).std, before)
    change(net)
    for use in (lambda: la.predict(X), lambda: la.novelty(X), lambda: la.fit((X, REAL))):
        with pytest.raises(SettingsError, match="have changed since"):
            use()
    net.float().load_state_dict(weights)
    assert torch.equal(la.predict(X).std, before)
