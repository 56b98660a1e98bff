"""Prior precision and noise: the largest evidence, and the best prediction of held-out data."""

import dense_posterior as dense
import pytest
import torch
from small_networks import make, samples

import farfield as ff

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
