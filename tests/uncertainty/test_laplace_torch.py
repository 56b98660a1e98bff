"""Against laplace-torch: its full posterior over all weights, in float64."""

import warnings

import pytest
import torch
from small_networks import make, samples
from torch.utils.data import DataLoader, TensorDataset

import farfield as ff

with warnings.catch_warnings():  # of its own imports
    warnings.simplefilter("ignore")
    laplace = pytest.importorskip("laplace")


@pytest.mark.parametrize("likelihood", ["regression", "classification"])
def test_full_posterior(likelihood) -> None:
    model, shape = make("mlp")
    x, y = samples(shape, likelihood, n=20)
    new = 3 * torch.randn(5, *shape, dtype=torch.float64)
    noise = {"sigma_noise": 0.3**0.5} if likelihood == "regression" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = laplace.Laplace(
            model,
            likelihood,
            subset_of_weights="all",
            hessian_structure="full",
            prior_precision=0.7,
            **noise,
        )
        other.fit(DataLoader(TensorDataset(x, y), batch_size=20))
        found = other(new) if likelihood == "regression" else other(new, link_approx="probit")
        evidence = float(other.log_marginal_likelihood())
    noise_var = 0.3 if likelihood == "regression" else 1.0
    la = ff.LinearizedLaplace(model, likelihood, 0.7, noise_var).fit((x, y))
    mine = la.predict(new)
    if likelihood == "regression":
        torch.testing.assert_close(mine.mean, found[0], rtol=1e-10, atol=1e-10)
        mine, found = la.predict_outputs(new)[1], found[1]
    # Theirs is some 1e-7 from the dense posterior (make bench-laplace), ours 1e-14.
    assert (mine - found).norm() < 1e-5 * found.norm()
    assert la.log_marginal_likelihood() == pytest.approx(evidence, rel=1e-5)
