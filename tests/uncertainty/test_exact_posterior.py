"""The posterior in function space is that over all parameters, from dense Jacobians."""

import dense_posterior as dense
import mpmath
import pytest
import torch
from small_networks import NETWORKS, make, samples

import farfield as ff
from farfield.errors import AccuracyWarning, RangeError, SingularKernelError
from farfield.uncertainty.likelihood import softmax_roots

# Rounding of two routes to the same matrix in float64; a wrong term would show at 1e-2.
TOLERANCE = 1e-9


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("likelihood", ["regression", "classification"])
@pytest.mark.parametrize("name", NETWORKS)
def test_dense_posterior(name, likelihood) -> None:
    model, shape = make(name)
    x, y = samples(shape, likelihood)
    new = 3 * torch.randn(4, *shape, dtype=torch.float64)
    noise = 0.3 if likelihood == "regression" else 1.0
    la = ff.LinearizedLaplace(model, likelihood, prior_precision=0.7, noise_var=noise)
    mean, covariance = la.fit((x, y)).predict_outputs(new)
    # Attention without gradients takes another way through the same sums.
    assert error(mean, dense.run(model, new)) < 1e-12
    assert error(covariance, dense.covariances(model, x, new, likelihood, 0.7, noise)) < TOLERANCE
    wanted = dense.log_evidence(model, x, y, likelihood, 0.7, noise)
    assert la.log_marginal_likelihood() == pytest.approx(wanted, rel=1e-10)
    found = la.predict(new)
    if likelihood == "regression":
        assert error(found.std.square(), covariance.diagonal(dim1=1, dim2=2)) < 1e-12
        total = found.std.square() + 0.3
        assert error(found.total_std.square(), total) < 1e-12
    else:
        assert bool((found > 0).all())
        assert (found.sum(1) - 1).abs().max() < 1e-12


def test_frozen_parameters_are_certain() -> None:
    model, shape = make("mlp")
    for parameter in model[:2].parameters():
        parameter.requires_grad_(False)
    x, y = samples(shape, "regression")
    la = ff.LinearizedLaplace(model, "regression").fit((x, y))
    wanted = dense.covariances(model, x, x, "regression", 1.0)
    assert error(la.predict_outputs(x)[1], wanted) < TOLERANCE
    assert la.log_marginal_likelihood() == pytest.approx(
        dense.log_evidence(model, x, y, "regression", 1.0), rel=1e-10
    )


def test_duplicates_huge_and_tiny_inputs() -> None:
    model, shape = make("layer norm")
    x, y = samples(shape, "classification")
    x, y = torch.cat([x, x[:3], 1e30 * x[:1], 1e-30 * x[:1]]), torch.cat([y, y[:3], y[:2]])
    la = ff.LinearizedLaplace(model, "classification", prior_precision=0.1).fit((x, y))
    new = torch.cat([x[-2:], 1e140 * x[:2]])
    wanted = dense.covariances(model, x, new, "classification", 0.1)
    assert error(la.predict_outputs(new)[1], wanted) < TOLERANCE
    with pytest.raises(RangeError, match="not finite"):
        la.predict(1e200 * x[:2])


def test_single_precision_model_is_computed_in_double() -> None:
    model, shape = make("mlp")
    x, y = samples(shape, "regression")
    single = ff.mlp(2, [6, 5], 3, activation="tanh")
    single.load_state_dict(model.state_dict())
    model.load_state_dict(single.state_dict())  # rounded
    found = ff.LinearizedLaplace(single, "regression", 0.1, 1e-3).fit((x, y)).predict_outputs(x)[1]
    wanted = ff.LinearizedLaplace(model, "regression", 0.1, 1e-3).fit((x, y)).predict_outputs(x)[1]
    assert torch.equal(found, wanted)
    assert next(single.parameters()).dtype == torch.float32


def test_blocks_and_loaders_make_no_difference() -> None:
    model, shape = make("cnn")
    x, y = samples(shape, "classification", n=20)
    new = torch.randn(150, *shape, dtype=torch.float64)
    whole = ff.LinearizedLaplace(model, "classification").fit((x, y))
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(data, batch_size=7)
    small = ff.LinearizedLaplace(model, "classification", memory="1MB").fit(loader)
    assert small.posterior.side(small._network, new) < 150
    unlabelled = torch.utils.data.DataLoader(new, batch_size=33)
    for given in (new, unlabelled):
        assert error(small.predict(given), whole.predict(new)) < 1e-12
    assert error(small.predict(loader), whole.predict(x)) < 1e-12


def test_variances_without_digits_are_told() -> None:
    model, shape = make("mlp")
    x, y = samples(shape, "regression")
    single = ff.LinearizedLaplace(model, "regression", 1e-2, 1e-4, dtype=torch.float32)
    with pytest.warns(AccuracyWarning, match="dtype=torch.float64"):
        single.fit((x, y)).predict(x)
    with pytest.raises(SingularKernelError, match="lost in the rounding"):
        ff.LinearizedLaplace(model, "regression", 1e-10, 1e-10).fit((x, y))


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_roots_of_softmax_hessians(scale) -> None:
    outputs = scale * torch.randn(4, 5, dtype=torch.float64)
    roots = softmax_roots(outputs)
    assert roots.shape == (4, 5, 4)
    with mpmath.workdps(400):
        for row, root in zip(outputs.tolist(), roots, strict=True):
            powers = [mpmath.exp(v) for v in row]
            p = [v / sum(powers) for v in powers]
            for a in range(5):
                for b in range(5):
                    wanted = p[a] * (a == b) - p[a] * p[b]
                    found = mpmath.fsum(
                        mpmath.mpf(float(s)) * mpmath.mpf(float(t))
                        for s, t in zip(root[a], root[b], strict=True)
                    )
                    size = mpmath.sqrt(p[a] * (1 - p[a]) * p[b] * (1 - p[b]))
                    # Rounding of logits near 300 is 6e-14; below 1e-300 doubles end.
                    assert abs(found - wanted) <= 1e-12 * size + mpmath.mpf(10) ** -300
