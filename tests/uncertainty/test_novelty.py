"""What is new of an input: distances of dense gradients, and an alarm where variances saturate."""

import dense_posterior as dense
import pytest
import torch
from small_networks import make, samples

import farfield as ff
from farfield.errors import SettingsError


def features(model, x) -> torch.Tensor:
    gradients = dense.all_gradients(model, x)
    return gradients.flatten(1) / gradients.shape[1] ** 0.5


def distance(target: torch.Tensor, others: torch.Tensor, ridge: float) -> float:
    """The regularised squared distance of a feature from what others combine to."""
    # min |t - a F|^2 + ridge |a|^2 as a plain least-squares problem.
    eye = ridge**0.5 * torch.eye(len(others), dtype=torch.float64)
    system = torch.cat([others.T, eye])
    goal = torch.cat([target, torch.zeros(len(others), dtype=torch.float64)])
    best = torch.linalg.lstsq(system, goal[:, None], driver="gelsd").solution
    return float((goal[:, None] - system @ best).square().sum())


@pytest.mark.parametrize("name", ["mlp", "layer norm", "attention"])
def test_least_squares(name) -> None:
    model, shape = make(name)
    x, y = samples(shape, "classification", n=12)
    new = 3 * torch.randn(3, *shape, dtype=torch.float64)
    la = ff.LinearizedLaplace(model, "classification").fit((x, y))
    known, there = features(model, x), features(model, new)
    squares = known.square().sum(1)
    ridge = 1e-4 * float(squares.mean())
    left_out = []
    for i in range(12):
        others = torch.cat([known[:i], known[i + 1 :]])
        left_out.append(distance(known[i], others, ridge) / float(squares[i]))
    typical = torch.tensor(left_out).median()
    length = there.square().sum(1).clamp(max=squares.max())
    wanted = torch.tensor([distance(one, known, ridge) for one in there]) / length / typical
    # Single precision of the list of numbers above.
    torch.testing.assert_close(la.novelty(new), wanted, rtol=1e-5, atol=1e-6, check_dtype=False)
    above = torch.tensor(left_out) / typical
    assert bool((la.novelty(x) < above).all())  # each is among those it is compared with
    assert la.novelty_threshold(0.5) == pytest.approx(sorted(above.tolist())[6], rel=1e-5)
    assert la.novelty_threshold(0.001) == pytest.approx(float(above.max()), rel=1e-5)
    ella = ff.LinearizedLaplace(model, "classification", method="nystrom", inducing=100)
    torch.testing.assert_close(ella.fit((x, y)).novelty(new), la.novelty(new))


def test_scale_noise_and_prior_make_no_difference() -> None:
    model, shape = make("mlp")
    x, y = samples(shape, "regression", n=20)
    new = torch.randn(5, *shape, dtype=torch.float64)
    first = ff.LinearizedLaplace(model, "regression").fit((x, y)).novelty(new)
    with torch.no_grad():  # the gradients of all outputs become a thousand times as long ...
        for layer in (model[0], model[2]):
            for parameter in layer.parameters():
                parameter.requires_grad_(False)
        small = ff.LinearizedLaplace(model, "regression").fit((x, y)).novelty(new)
        wide = torch.nn.Sequential(model, Times(1000.0))
        large = ff.LinearizedLaplace(wide, "regression", 3.0, 0.1).fit((x, y)).novelty(new)
    torch.testing.assert_close(small, large)
    assert not torch.allclose(first, small)


class Times(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


@pytest.mark.parametrize(("norm", "share"), [(None, 0.95), ("layer", 0.5)])
def test_far_inputs_raise_the_alarm_with_and_without_a_norm(norm, share) -> None:
    """Behind a norm not in every network: some of them have a few samples that are as new."""
    far = torch.tensor([[-1e6], [-1e3], [1e3], [1e6]], dtype=torch.float64)
    alarms, false_alarms = [], []
    for seed in range(8):
        torch.manual_seed(seed)
        model = ff.mlp(1, [32, 32], 1, norm=norm, norm_at="first").double()
        x = torch.rand(60, 1, dtype=torch.float64) * 6 - 3
        y = x.sin() + 0.1 * torch.randn_like(x)
        la = ff.LinearizedLaplace(model, "regression", noise_var=0.01).fit((x, y))
        std = la.predict(far).std[:, 0]
        growth = float(std[3] / std[2])
        assert growth == pytest.approx(1000 if norm is None else 1, rel=0.2)
        threshold = la.novelty_threshold(0.05)
        alarms.append((la.novelty(far) > threshold).double().mean())
        inside = la.novelty(torch.rand(100, 1, dtype=torch.float64) * 5 - 2.5)
        false_alarms.append((inside > threshold).double().mean())
    assert torch.stack(alarms).mean() > share
    assert torch.stack(false_alarms).mean() < 0.15


def test_levels() -> None:
    model, shape = make("mlp")
    la = ff.LinearizedLaplace(model, "regression").fit(samples(shape, "regression"))
    for level in (0.0, 1.0, float("nan")):
        with pytest.raises(SettingsError, match="between 0 and 1"):
            la.novelty_threshold(level)
