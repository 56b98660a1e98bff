"""What is new of an input: distances of dense gradients, and an alarm where variances saturate."""

import dense_posterior as dense
import pytest
import torch
from small_networks import make, samples

import farfield as ff
from farfield.errors import RangeError, SettingsError


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


def squared(known: torch.Tensor, new: torch.Tensor, ridge: float) -> tuple[list[float], ...]:
    """Those of each known feature from the others, and of new ones, in units of a quantile."""
    price = ridge * float(known.square().sum(1).mean())
    others = [torch.cat([known[:i], known[i + 1 :]]) for i in range(len(known))]
    left_out = [distance(one, rest, price) for one, rest in zip(known, others, strict=True)]
    unit = sorted(left_out)[int(0.95 * (len(known) + 1))]
    return [d / unit for d in left_out], [distance(one, known, price) / unit for one in new]


@pytest.mark.parametrize("name", ["mlp", "layer norm", "attention"])
def test_least_squares(name) -> None:
    model, shape = make(name)
    n = 24
    x, y = samples(shape, "classification", n=n)
    new = 3 * torch.randn(5, *shape, dtype=torch.float64)
    new[0] = 1e4 * x[0]
    la = ff.LinearizedLaplace(model, "classification").fit((x, y))
    tangents = squared(features(model, x), features(model, new), 1e-2)
    mean = x.mean(0)
    size = (x - mean).square().flatten(1).sum(1).mean().sqrt()
    places = [
        torch.cat([torch.ones(len(z), 1).double(), ((z - mean) / size).flatten(1)], 1)
        for z in (x, new)
    ]
    inputs = squared(*places, 1.0)
    left_out, there = (
        torch.tensor([max(pair) ** 0.5 for pair in zip(first, second, strict=True)])
        for first, second in zip(tangents, inputs, strict=True)
    )
    unit = left_out.sort().values[int(0.95 * (n + 1))]
    # Single precision of the lists above.
    torch.testing.assert_close(la.novelty(new), there / unit, rtol=1e-5, atol=0, check_dtype=False)
    for level, place in ((0.5, 12), (0.05, 23), (0.001, 23)):
        wanted = float(left_out.sort().values[place] / unit)
        assert la.novelty_threshold(level) == pytest.approx(wanted, rel=1e-5)
    assert la.novelty_threshold() == 1.0
    ella = ff.LinearizedLaplace(model, "classification", method="nystrom", inducing=100)
    torch.testing.assert_close(ella.fit((x, y)).novelty(new), la.novelty(new))


def test_scale_noise_and_prior_make_no_difference() -> None:
    layers = (torch.nn.Linear(12, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    model = torch.nn.Sequential(torch.nn.Embedding(20, 3), torch.nn.Flatten(), *layers).double()
    # Of tokens the tangent features alone count, so that nothing else can hide what they do.
    x, y = torch.randint(20, (20, 4)), torch.randn(20, 1, dtype=torch.float64)
    new = torch.randint(20, (50, 4))
    first = ff.LinearizedLaplace(model, "regression").fit((x, y)).novelty(new)
    model[0].requires_grad_(False)
    small = ff.LinearizedLaplace(model, "regression").fit((x, y)).novelty(new)
    # The gradients of all outputs become a thousand times as long.
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


@pytest.mark.parametrize("norm", [None, "layer"])
def test_far_inputs_raise_the_alarm_with_and_without_a_norm(norm) -> None:
    alarms, false_alarms = [], []
    for seed in range(3):
        model = ff.mlp(8, [16], 1, norm=norm, norm_at="first")
        x = torch.randn(150, 8)
        la = ff.LinearizedLaplace(model, "regression").fit((x, x.sum(1).sin()))
        far = la.novelty(torch.logspace(1, 15, 40)[:, None] * torch.randn(40, 8))
        assert far.isfinite().all()
        alarms.append(bool((far > 1.0).all()))
        turned = la.novelty(-(10.0 ** (6 + seed)) * x[:5]) / la.novelty(-1e5 * x[:5])
        torch.testing.assert_close(
            turned, torch.full((5,), 10.0 ** (seed + 1)).double(), rtol=1e-2, atol=0
        )
        false_alarms.append((la.novelty(torch.randn(200, 8)) > 1.0).double().mean())
    assert all(alarms)
    # 5 % of 600 with a standard deviation of 1 %, and as much again for the quantiles of 150.
    assert torch.stack(false_alarms).mean() < 0.12


def test_units_of_the_inputs_make_no_difference() -> None:
    x, new = torch.randn(30, 3).double(), 2 * torch.randn(6, 3).double()
    found = []
    for unit in (1.0, 1e-9, 1e9):
        model = torch.nn.Linear(3, 1).double()
        model.weight.requires_grad_(False)  # the tangent feature is 1 for every input
        la = ff.LinearizedLaplace(model, "regression").fit((unit * x, x[:, 0]))
        found.append(la.novelty(unit * new))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_inputs_that_are_alike_tokens_and_other_shapes() -> None:
    alike = torch.full((6, 3), 2.0)
    la = ff.LinearizedLaplace(torch.nn.Linear(3, 1), "regression").fit((alike, torch.zeros(6)))
    assert float(la.novelty(alike)[0]) <= 1.0 < float(la.novelty(-alike)[0])
    tokens = torch.randint(5, (60, 1)) + torch.arange(4)
    table = torch.nn.Sequential(
        torch.nn.Embedding(20, 3), torch.nn.Flatten(), torch.nn.Linear(12, 1)
    )
    la = ff.LinearizedLaplace(table, "regression").fit((tokens, torch.zeros(60)))
    assert float(la.novelty(torch.tensor([[15, 16, 17, 18]]))[0]) > 1.0  # never read in training
    pooled = torch.nn.Sequential(
        torch.nn.Conv1d(1, 2, 3), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten()
    )
    x = torch.randn(8, 1, 9)
    la = ff.LinearizedLaplace(pooled, "regression").fit((x, torch.zeros(8, 2)))
    with pytest.raises(SettingsError, match=r"\[\(1, 7\)\] for each .* \[\(1, 9\)\]"):
        la.novelty(torch.randn(2, 1, 7))
    la = ff.LinearizedLaplace(torch.nn.Linear(9, 1), "regression").fit((x[:, 0], torch.zeros(8)))
    with pytest.raises(RangeError, match=r"not finite|beyond the range"):
        la.novelty(torch.full((1, 9), 1e200, dtype=torch.float64))


class Named(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, age: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.stack([age, size], 1))


def test_inputs_by_name_in_any_order() -> None:
    age, size = torch.randn(30).double(), 100 + torch.randn(30).double()
    la = ff.LinearizedLaplace(Named().double(), "regression")
    la.fit(({"age": age, "size": size}, torch.zeros(30)))
    found = la.novelty({"size": size, "age": age})
    assert torch.equal(found, la.novelty({"age": age, "size": size}))
    assert float(found.median()) < 1.0 < float(la.novelty({"age": size, "size": age}).min())


def test_levels() -> None:
    model, shape = make("mlp")
    la = ff.LinearizedLaplace(model, "regression").fit(samples(shape, "regression"))
    for level in (0.0, 1.0, float("nan")):
        with pytest.raises(SettingsError, match="between 0 and 1"):
            la.novelty_threshold(level)
