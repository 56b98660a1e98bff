"""ELLA: its directions, its features, its stop, and how it comes closer to the exact posterior."""

import dense_posterior as dense
import pytest
import torch
from small_networks import NETWORKS, make, samples

import farfield as ff
from farfield.errors import AccuracyWarning
from farfield.uncertainty.subspace import draw_pairs


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).norm() / wanted.norm())


def ella(model, likelihood="classification", **settings) -> ff.LinearizedLaplace:
    return ff.LinearizedLaplace(model, likelihood, method="nystrom", **settings)


@pytest.mark.parametrize("name", NETWORKS)
def test_directions_and_features(name) -> None:
    model, shape = make(name)
    x, y = samples(shape, "classification", n=12)
    la = ella(model, inducing=8, features=5).fit((x, y))
    subspace = la.posterior.subspace
    directions = torch.cat([stack.flatten(1) for stack in subspace.directions], 1)
    # Orthonormal up to the rounding of eigenvectors over the smallest eigenvalue kept.
    assert error(directions @ directions.T, torch.eye(5, dtype=torch.float64)) < 1e-8
    own = dense.all_gradients(model, subspace.inducing)
    chosen = own[torch.arange(8), subspace.chosen]
    values = torch.linalg.eigvalsh(chosen @ chosen.T).flip(0)
    assert error(subspace.values, values) < 1e-10
    # The directions span the leading eigenvectors of the gradients' second moment.
    leading = torch.linalg.svd(chosen)[2][:5]
    assert error(directions.T @ directions, leading.T @ leading) < 1e-7
    features = la.posterior.features(la._network, x)
    assert error(features, dense.all_gradients(model, x) @ directions.T) < 1e-10


def test_posterior_is_that_of_the_directions() -> None:
    model, shape = make("mlp")
    for likelihood, noise in (("classification", 1.0), ("regression", 0.2)):
        x, y = samples(shape, likelihood, n=30)
        la = ella(model, likelihood, noise_var=noise, prior_precision=0.4, inducing=20, features=7)
        la.fit((x, y))
        d = torch.cat([stack.flatten(1) for stack in la.posterior.subspace.directions], 1)
        phi = dense.all_gradients(model, x) @ d.T
        curvature = dense.hessians(dense.run(model, x), likelihood, noise)
        precision = torch.einsum("iap,iab,ibq->pq", phi, curvature, phi)
        precision += 0.4 * torch.eye(7, dtype=torch.float64)
        new = torch.randn(5, *shape, dtype=torch.float64)
        there = dense.all_gradients(model, new) @ d.T
        wanted = there @ torch.linalg.inv(precision) @ there.mT
        assert error(la.predict_outputs(new)[1], wanted) < 1e-9


@pytest.mark.parametrize("likelihood", ["regression", "classification"])
def test_all_directions_are_exact_at_training_inputs(likelihood) -> None:
    model, shape = make("mlp")
    x, y = samples(shape, likelihood)
    exact = ff.LinearizedLaplace(model, likelihood).fit((x, y))
    full = ella(model, likelihood, inducing=1000, features=1000).fit((x, y))
    assert len(full.posterior.subspace.values) == 27
    # Directions whose eigenvalue is lost in rounding are left out.
    assert error(full.predict_outputs(x)[1], exact.predict_outputs(x)[1]) < 1e-7
    evidence = exact.log_marginal_likelihood()
    assert full.log_marginal_likelihood() == pytest.approx(evidence, rel=1e-8)


def test_errors_fall_as_samples_and_features_grow() -> None:
    model = ff.mlp(2, [16], 2, activation="tanh").double()
    x, y = samples((2,), "classification", n=200, outputs=2)
    new = torch.randn(20, 2, dtype=torch.float64)
    kernel = ff.empirical_ntk(model, outputs="full")(new).reshape(40, 40)
    exact = ff.LinearizedLaplace(model, "classification").fit((x, y)).predict_outputs(new)[1]
    kernels, covariances = [], []
    for size in (2, 8, 32):
        la = ella(model, inducing=4 * size, features=size).fit((x, y))
        phi = la.posterior.features(la._network, new).flatten(0, 1)
        kernels.append(error(phi @ phi.T, kernel))
        covariances.append(error(la.predict_outputs(new)[1], exact))
    assert kernels[0] > kernels[1] > kernels[2]
    assert covariances[0] > covariances[2]
    assert kernels[2] < 1e-2 * kernels[0]
    assert covariances[2] < 0.1


def test_stop_is_the_best_of_a_plain_search() -> None:
    model, shape = make("mlp")
    x, y = samples(shape, "classification", n=50)
    new, labels = samples(shape, "classification", n=30)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=9)
    seen: list[tuple[int, int]] = []
    la = ella(model, prior_precision=3.0, inducing=20, features=6)
    la.fit(loader, validation=(new, labels), search=20, progress=lambda *step: seen.append(step))
    assert seen == [(0, 50), (20, 50), (40, 50), (50, 50)]
    phi = la.posterior.features(la._network, x)
    there = la.posterior.features(la._network, new)
    outputs = dense.run(model, new)
    losses = {}
    for stop in (20, 40, 50):
        curvature = dense.hessians(dense.run(model, x[:stop]), "classification", 1.0)
        precision = torch.einsum("iap,iab,ibq->pq", phi[:stop], curvature, phi[:stop])
        precision += stop / 50 * 3.0 * torch.eye(6, dtype=torch.float64)
        cov = there @ torch.linalg.inv(precision) @ there.mT
        logits = outputs / (1 + torch.pi / 8 * cov.diagonal(dim1=1, dim2=2)).sqrt()
        losses[stop] = float(torch.nn.functional.cross_entropy(logits, labels))
    found = {stop.seen: stop.loss for stop in la.posterior.search}
    assert found == pytest.approx(losses, rel=1e-9)
    assert la.posterior.seen == min(losses, key=losses.__getitem__)
    best = losses[la.posterior.seen]
    assert -float(la.predict(new).log().gather(1, labels[:, None]).mean()) == pytest.approx(best)


def test_parts_of_the_data_are_compared_by_the_link_that_is_asked_for() -> None:
    """The loss of each part is that of predictions with the posterior of the part."""
    model, shape = make("mlp")
    with torch.no_grad():
        model[-1].weight *= 20
    x, y = samples(shape, "classification", n=40)
    new, labels = samples(shape, "classification", n=30)
    la = ella(model, prior_precision=3.0, inducing=20, features=6)
    la.fit((x, y), validation=(new, labels), search=20, link="monte_carlo")
    found = la.predict(new, link="monte_carlo").gather(1, labels[:, None]).log().mean()
    # The same random numbers, and roots of the same form.
    assert -float(found) == pytest.approx(min(stop.loss for stop in la.posterior.search), rel=1e-9)
    probit = ella(model, prior_precision=3.0, inducing=20, features=6)
    probit.fit((x, y), validation=(new, labels), search=20)
    pairs = zip(la.posterior.search, probit.posterior.search, strict=True)
    for one, other in pairs:
        assert one.seen == other.seen
        assert one.loss != other.loss


def test_singular_sums_and_the_least_prior_precision() -> None:
    """More features than there are samples, of gradients as large as 1e6."""
    model = ff.mlp(2, [20], 3).double()
    x, y = samples((2,), "classification", n=8)
    la = ella(model, prior_precision=1e-10, inducing=24, features=24).fit((1e6 * x, y))
    assert la.predict(x).isfinite().all()
    assert la.predict_outputs(1e6 * x)[1].isfinite().all()


def test_samples_are_drawn_evenly_over_classes() -> None:
    classes = torch.tensor([0] * 50 + [1] * 5 + [2] * 20)
    generator = torch.Generator().manual_seed(int(torch.randint(10**6, ())))
    rows, chosen = draw_pairs(classes, 75, 4, 30, generator)
    assert torch.bincount(classes[rows]).tolist() in ([13, 5, 12], [12, 5, 13])
    assert len(rows.unique()) == 30
    assert chosen.min() >= 0
    assert chosen.max() <= 3
    rows, chosen = draw_pairs(None, 10, 3, 1000, generator)
    assert sorted(zip(rows.tolist(), chosen.tolist(), strict=True)) == [
        (row, output) for row in range(10) for output in range(3)
    ]
    counts = torch.bincount(draw_pairs(None, 3000, 3, 3000, generator)[1])
    # Each about 1000 with a standard deviation of 26; six of them.
    assert (counts - 1000).abs().max() < 160


def test_loader_and_tensors_and_seeds() -> None:
    model, shape = make("cnn")
    x, y = samples(shape, "classification", n=40)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=7)

    def found(seed: int) -> torch.Tensor:
        return ella(model, inducing=30, features=4, seed=seed).fit(loader).predict(x)

    first, other = found(1), found(2)
    with torch.inference_mode(), torch.autocast("cpu"):
        again = found(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_precision_is_computed_in_single() -> None:
    model = make("mlp")[0].bfloat16()
    x, y = samples((2,), "classification", n=30)
    with pytest.warns(AccuracyWarning, match="copy in torch.float32"):
        la = ella(model, inducing=20, features=4)
    found = la.fit((x, y)).predict(x.bfloat16())
    assert model[0].weight.dtype == torch.bfloat16
    double = make("mlp")[0]
    double.load_state_dict(model.state_dict())
    wanted = ella(double, inducing=20, features=4)
    # Single against double precision, with inputs of 8 bits.
    assert error(found, wanted.fit((x, y)).predict(x.bfloat16())) < 1e-3
