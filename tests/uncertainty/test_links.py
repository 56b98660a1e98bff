"""Class probabilities: random outputs against quadrature, the closed form against its formula."""

import numpy as np
import pytest
import torch
from small_networks import make, samples

import farfield as ff
from farfield.uncertainty import links
from farfield.uncertainty.links import monte_carlo


def test_monte_carlo_against_quadrature() -> None:
    # The softmax of two outputs is the logistic function of their difference, a Gaussian.
    root = torch.randn(6, 2, 3, dtype=torch.float64)
    mean = torch.randn(6, 2, dtype=torch.float64)
    samples = 20_000
    found = monte_carlo(mean, root, samples, torch.Generator().manual_seed(3))[:, 0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    for row in range(6):
        spread = float((root[row, 0] - root[row, 1]).norm())
        inner = float(mean[row, 0] - mean[row, 1]) + spread * nodes
        values = 1 / (1 + np.exp(-inner))
        wanted = float(weights @ values / weights.sum())
        deviation = float(np.sqrt(weights @ (values - wanted) ** 2 / weights.sum() / samples))
        assert abs(float(found[row]) - wanted) < 5 * deviation  # z-score; six of them


def test_links_of_a_posterior() -> None:
    model, shape = make("mlp")
    x, y = samples(shape, "classification", n=20)
    for method in ("exact", "nystrom"):
        la = ff.LinearizedLaplace(model, "classification", method=method).fit((x, y))
        mean, covariance = la.predict_outputs(x)
        variances = covariance.diagonal(dim1=1, dim2=2)
        wanted = (mean / (1 + torch.pi / 8 * variances).sqrt()).softmax(1)
        assert (la.predict(x) - wanted).abs().max() < 1e-12
        state = torch.get_rng_state()
        drawn = la.predict(x, link="monte_carlo", samples=4000)
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(drawn, la.predict(x, link="monte_carlo", samples=4000))
        other = torch.Generator().manual_seed(5)
        fresh = la.predict(x, link="monte_carlo", samples=4000, generator=other)
        assert not torch.equal(drawn, fresh)
        # Each has a standard error of at most 1 / (2 sqrt(4000)).
        assert (drawn - fresh).abs().max() < 5 * 2**0.5 / (2 * 4000**0.5)
        root = torch.linalg.cholesky(covariance + 1e-12 * torch.eye(3, dtype=torch.float64))
        mine = mean + torch.einsum("nab,snb->sna", root, torch.randn(4000, 20, 3).double())
        assert (drawn - mine.softmax(2).mean(0)).abs().max() == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("samples", [1, 16, 37])
def test_draws_of_an_input_do_not_depend_on_the_others(samples, monkeypatch) -> None:
    root, mean = torch.randn(9, 3, 5).double(), torch.randn(9, 3).double()
    together = monte_carlo(mean, root, samples, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    parts = [
        monte_carlo(mean[rows], root[rows], samples, generator)
        for rows in (slice(0, 1), slice(1, 6), slice(6, 9))
    ]
    monkeypatch.setattr(links, "_AT_ONCE", 1)
    one_by_one = monte_carlo(mean, root, samples, torch.Generator().manual_seed(3))
    # Rounding of products of five numbers.
    for other in (torch.cat(parts), one_by_one):
        torch.testing.assert_close(other, together, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("rank", [2, 3, 20])
def test_draws_are_of_the_covariance_whichever_root_is_given(rank, monkeypatch) -> None:
    root, mean = torch.randn(9, 3, rank).double(), torch.randn(9, 3).double()
    turned = root @ torch.linalg.qr(torch.randn(9, rank, rank).double())[0]
    drawn: list[int] = []
    randn = torch.randn

    def counted(shape, **how):
        drawn.append(shape[2])
        return randn(shape, **how)

    monkeypatch.setattr(torch, "randn", counted)
    one, other = (
        monte_carlo(mean, r, 20, torch.Generator().manual_seed(3)) for r in (root, turned)
    )
    # Rounding, and little columns that orthogonalisation leaves less exact.
    torch.testing.assert_close(other, one, rtol=1e-8, atol=0.0)
    assert set(drawn) == {min(rank, 3)}  # no more random numbers than outputs
