"""Prior precision and noise: the largest evidence, and the best prediction of held-out data."""

import warnings

import dense_posterior as dense
import pytest
import torch
from small_networks import make, samples

import farfield as ff
from farfield.errors import AccuracyWarning, SettingsError

METHODS = [("exact", {}), ("nystrom", {"inducing": 30, "features": 10})]


def held_out_loss(la, x, y) -> float:
    found = la.predict(x)
    if isinstance(found, torch.Tensor):
        return float(-found.gather(1, y[:, None]).log().mean())
    law = torch.distributions.Normal(found.mean, found.total_std)
    return float(-law.log_prob(y).sum(1).mean())


def around(la, value) -> list[float]:
    """What a function of the fitted object is when prior precision or noise are moved a little."""
    p, s = la.prior_precision, la.noise_var
    found = []
    for factor, other in ((1.2, 1.0), (0.8, 1.0), (1.0, 1.2), (1.0, 0.8)):
        moved = other != 1.0 and la._settings.likelihood == "classification"
        allowed = all(1e-10 <= value <= 1e12 for value in (p * factor, s * other))
        if allowed and not moved:
            la.prior_precision, la.noise_var = p * factor, s * other
            la._fit = la._fit.with_ridge(la.prior_precision * la.noise_var)
            found.append(value(la))
    la.prior_precision, la.noise_var = p, s
    la._fit = la._fit.with_ridge(p * s)
    return found


@pytest.mark.parametrize("likelihood", ["regression", "classification"])
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_largest_evidence_and_best_prediction(likelihood, method, options) -> None:
    model, shape = make("mlp")
    x, y = samples(shape, likelihood, n=40)
    new, labels = samples(shape, likelihood, n=60)
    if likelihood == "classification":  # mostly right, so that some uncertainty is best
        labels = torch.where(torch.rand(60) < 0.8, dense.run(model, new).argmax(1), labels)
        with torch.no_grad():
            model[-1].weight *= 20
    la = ff.LinearizedLaplace(model, likelihood, method=method, **options).fit((x, y))
    before = la.log_marginal_likelihood()
    assert la.tune() is la
    best = la.log_marginal_likelihood()
    assert best >= before
    moved = around(la, ff.LinearizedLaplace.log_marginal_likelihood)
    assert max(moved) <= best + 1e-9
    if method == "exact":
        wanted = dense.log_evidence(model, x, y, likelihood, la.prior_precision, la.noise_var)
        assert best == pytest.approx(wanted, rel=1e-9)
    la.tune(by="validation", validation=(new, labels))
    loss = held_out_loss(la, new, labels)
    if likelihood == "regression":
        noise = la.noise_var
        la.tune(by="validation", validation=(new, labels), noise=False)
        assert la.noise_var == noise
        # The noise alone was best already: nothing is left to gain, but for a flat valley.
        assert held_out_loss(la, new, labels) >= loss - 1e-4
        loss = held_out_loss(la, new, labels)
    # Flat valleys end where steps change no more than this.
    assert min(around(la, lambda la: held_out_loss(la, new, labels)), default=loss) >= loss - 1e-6


def test_nothing_is_lost_on_the_way_through_a_large_precision() -> None:
    model, shape = make("mlp")
    x, y = samples(shape, "regression", n=20)
    la = ff.LinearizedLaplace(model, "regression").fit((x, y))
    before = la.predict(x).std
    huge = la._fit.with_ridge(1e24)
    la._fit = huge.with_ridge(1.0)
    torch.testing.assert_close(la.predict(x).std, before, rtol=1e-12, atol=0.0)


def test_tuned_posterior_is_one_fitted_with_these_settings() -> None:
    model, shape = make("mlp")
    x, y = samples(shape, "regression", n=40)
    for method, options in METHODS:
        la = ff.LinearizedLaplace(model, "regression", method=method, **options)
        la.fit((x, y)).tune()
        other = ff.LinearizedLaplace(
            model, "regression", la.prior_precision, la.noise_var, method=method, **options
        ).fit((x, y))
        torch.testing.assert_close(la.predict(x).std, other.predict(x).std, rtol=1e-9, atol=0.0)


def test_what_is_set_by_hand_counts_at_once() -> None:
    model, shape = make("mlp")
    x, y = samples(shape, "regression", n=20)
    for method, options in METHODS:
        la = ff.LinearizedLaplace(model, "regression", method=method, **options).fit((x, y))
        before = la.predict(x).std
        la.prior_precision, la.noise_var = 0.02, 0.3
        other = ff.LinearizedLaplace(model, "regression", 0.02, 0.3, method=method, **options)
        assert not torch.equal(la.predict(x).std, before)
        wanted = other.fit((x, y)).predict(x).std
        torch.testing.assert_close(la.predict(x).std, wanted, rtol=1e-9, atol=0.0)
        la.prior_precision = -1.0
        with pytest.raises(SettingsError, match=r"prior_precision is -1.0; it must be positive"):
            la.predict(x)


def test_no_search_ends_where_rounding_leaves_nothing() -> None:
    """Of targets that are met without an error, the least noise is best, of which nothing is left.

    In one case by the evidence, in the other by held-out data.
    """
    model = ff.mlp(2, [6], 1).double()
    x = 1e6 * torch.randn(20, 2).double()  # the kernel's eigenvalues are about 1e12
    for held_out in ({}, {"by": "validation", "validation": (x, dense.run(model, x))}):
        la = ff.LinearizedLaplace(model, "regression", 1.0, 1.0).fit((x, dense.run(model, x)))
        la.tune(**held_out)
        assert la.prior_precision * la.noise_var >= la.posterior.least_ridge
        with warnings.catch_warnings():  # there may be a word of how few digits are left
            warnings.simplefilter("ignore", AccuracyWarning)
            assert la.predict(x).std.isfinite().all()


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_tuned_for_the_link_that_is_asked_for(method, options) -> None:
    """No other prior precision predicts better with the same random outputs."""
    model, shape = make("mlp")
    with torch.no_grad():
        model[-1].weight *= 20
    x, y = samples(shape, "classification", n=30)
    new = torch.randn(15, *shape, dtype=torch.float64)
    labels = dense.run(model, new).argmax(1)
    labels[:4] = (labels[:4] + 1) % 3  # so that some uncertainty is best
    la = ff.LinearizedLaplace(model, "classification", method=method, **options).fit((x, y))

    def loss(link: str) -> float:
        found = la.predict(new, link=link)
        return float(-found.gather(1, labels[:, None]).log().mean())

    tuned = {}
    for link in ("probit", "monte_carlo"):
        la.tune(by="validation", validation=(new, labels), link=link)
        tuned[link] = la.prior_precision
        best = loss(link)
        for precision in (tuned[link] * factor for factor in (1e-2, 0.9, 1.1, 1e2)):
            if 1e-10 <= precision <= 1e12:
                la.prior_precision = precision
                # The end of a flat valley, and for the exact one two ways to the covariances.
                assert best <= loss(link) + 1e-5
    assert tuned["probit"] != tuned["monte_carlo"]
