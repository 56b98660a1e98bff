"""Any time of training, against integrated equations, iterated steps and trained networks."""

import math

import numpy as np
import pytest
import torch
from cases import batch, limit, naive
from scipy.linalg import expm
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import (
    ConditioningWarning,
    DataError,
    SettingsError,
    TrainingError,
)

KERNEL = limit().ntk
FACTOR = {"mse": lambda y: 2.0 / y.numel(), "half_sum": lambda y: 1.0}


def start(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x[:, 0], x[:, 1] ** 2], 1)


@pytest.mark.parametrize("loss", FACTOR)
@pytest.mark.parametrize("initial", [None, start])
def test_closed_form_is_the_matrix_exponential(loss, initial) -> None:
    x, y, new = batch(12), batch(12, 2, seed=1), batch(5, seed=2)
    flow = ff.GradientFlow(KERNEL, x, y, loss, initial)
    matrix = KERNEL(x).numpy()
    zero = torch.zeros(1, 2).expand(17, 2) if initial is None else initial(torch.cat([x, new]))
    f0, g0 = zero[:12].numpy(), zero[12:].numpy()
    times = [0.0, 1e-3, 1.0, 40.0]
    for time, predicted in zip(times, flow.predict(new, times), strict=True):
        left = expm(-FACTOR[loss](y) * time * matrix)
        learned = np.linalg.solve(matrix, (np.eye(12) - left) @ (y.numpy() - f0))
        np.testing.assert_allclose(predicted, g0 + KERNEL(new, x).numpy() @ learned, atol=1e-9)
        assert torch.equal(predicted, flow.predict(new, time))
    np.testing.assert_allclose(flow.predict(x), y, atol=1e-9)
    if initial is None:
        fit = ff.KernelRegression(KERNEL).fit(x, y)
        np.testing.assert_allclose(flow.predict(new, math.inf), fit.predict(new), atol=1e-9)


@pytest.mark.parametrize("loss", [*FACTOR, "own"])
def test_steps_are_those_of_gradient_descent(loss) -> None:
    def own(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.huber_loss(f, y)

    x, y, new = batch(8), batch(8, 2, seed=1), batch(5, seed=2)
    flow = ff.GradientFlow(KERNEL, x, y, own if loss == "own" else loss, start)
    both = torch.cat([x, new])
    matrix, outputs = KERNEL(both, x), start(both)
    largest = 1.0 if loss == "own" else flow.largest_stable_step
    step = 0.93 * largest  # beyond half of it modes change their sign in each step
    for _ in range(7):
        residual = outputs[:8] - y
        slope = residual.clamp(-1, 1) / 16 if loss == "own" else FACTOR[loss](y) * residual
        outputs = outputs - step * matrix @ slope
    found = flow.predict(new, steps=7, step_size=step)
    torch.testing.assert_close(found, outputs[8:], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(flow.predict(new, steps=0, step_size=step), start(new))


def test_the_largest_stable_step_is_the_largest() -> None:
    x, y = batch(8), batch(8, 1, seed=1)
    flow = ff.GradientFlow(KERNEL, x, y)
    largest = flow.largest_stable_step
    matrix = KERNEL(x)
    for factor, diverges in [(0.999, False), (1.001, True)]:
        outputs = torch.zeros(8, 1, dtype=torch.float64)
        for _ in range(20000):
            outputs = outputs - factor * largest * matrix @ (2.0 / 8 * (outputs - y))
        assert bool((outputs - y).abs().max() > 10) == diverges
    with pytest.raises(SettingsError, match="diverge; the largest stable step"):
        flow.predict(x, steps=3, step_size=1.001 * largest)
    many = flow.predict(x, steps=10**9, step_size=0.999 * largest)
    torch.testing.assert_close(many, y, rtol=1e-9, atol=1e-9)
    zeros = ff.GradientFlow(ff.Kernel(lambda a, b: 0 * (a @ b.T), lambda a: 0 * a[:, 0]), x, y)
    assert zeros.largest_stable_step == math.inf
    with pytest.warns(ConditioningWarning):
        assert torch.equal(zeros.predict(x), torch.zeros(8, 1))


def test_duplicates_are_trained_on_as_often_as_they_occur() -> None:
    x, y = batch(6), torch.tensor([0.0, 1, 2, 3, 4, 5], dtype=torch.float64)
    again, targets = torch.cat([x, x[:2], x[:1]]), torch.cat([y, y[:2] + 6.0, y[:1]])
    new = batch(4, seed=3)
    for loss in FACTOR:
        flow = ff.GradientFlow(KERNEL, again, targets, loss)
        matrix = KERNEL(again).numpy()
        values, vectors = np.linalg.eigh(matrix)
        values = values.clip(1e-12)  # three are 0
        for time in (0.5, 30.0):
            rate = FACTOR[loss](targets)
            learned = vectors @ ((1 - np.exp(-rate * time * values)) / values
                                 * (vectors.T @ targets.numpy()))  # fmt: skip
            expected = KERNEL(new, again).numpy() @ learned
            np.testing.assert_allclose(flow.predict(new, time), expected, atol=1e-9)
        expected = naive(KERNEL, again, targets, new, 0.0)
        np.testing.assert_allclose(flow.predict(new), expected, atol=1e-9)
        assert flow.predict(x[:1]).item() == pytest.approx(2.0)  # of 0, 6 and 0
        stable = 2.0 / (rate * np.linalg.eigvalsh(matrix)[-1])
        assert flow.largest_stable_step == pytest.approx(stable, rel=1e-10)


def test_a_singular_kernel_learns_what_it_can_and_says_so() -> None:
    x = torch.linspace(-3, 3, 200, dtype=torch.float64)[:, None]
    kernel = limit(1, norm=None, bias_var=0.0).ntk  # of rank 2
    flow = ff.GradientFlow(kernel, x, x.abs() + 0.3 * x)
    torch.testing.assert_close(flow.predict(100 * x), 100 * (x.abs() + 0.3 * x), rtol=1e-8, atol=0)
    flow = ff.GradientFlow(kernel, x, torch.sin(x))
    early = flow.predict(x, 1e-3)
    assert early.isfinite().all()
    for time in (1e12, math.inf):
        with pytest.warns(ConditioningWarning, match="198 of the 200 eigenvalues"):
            late = flow.predict(x, time)
        basis = torch.cat([x.clamp(min=0), x.clamp(max=0)], 1)  # all that the kernel can make
        best = basis @ torch.linalg.lstsq(basis, torch.sin(x)).solution
        torch.testing.assert_close(late, best, rtol=1e-6, atol=1e-8)


def test_cross_entropy_agrees_with_small_steps() -> None:
    x, classes, new = batch(9), torch.arange(9) % 3, batch(4, seed=2)
    flow = ff.GradientFlow(KERNEL, x, classes, "cross_entropy", classes=3)
    exact = flow.predict(new, [0.0, 2.0, 8.0, 2.0])
    assert torch.equal(exact[0], torch.zeros(4, 3))
    assert torch.equal(exact[1], exact[3])
    gaps = []
    for steps in (100, 200):
        descended = flow.predict(new, steps=steps, step_size=8.0 / steps)
        gaps.append((descended - exact[2]).abs().max())
    # Euler's method is off by a term of the first order in its step.
    assert gaps[0] / gaps[1] == pytest.approx(2.0, rel=0.1)
    probabilities = ff.GradientFlow(KERNEL, x, F.one_hot(classes).double(), "cross_entropy")
    torch.testing.assert_close(probabilities.predict(new, 2.0), exact[1])
    assert (flow.predict(x, 200.0).argmax(1) == classes).all()


def test_mse_by_the_differential_equation_agrees_with_its_closed_form() -> None:
    x, y, new = batch(9), batch(9, 2, seed=1), batch(4, seed=2)
    exact = ff.GradientFlow(KERNEL, x, y, "mse", start).predict(new, [0.7, 20.0])
    solved = ff.GradientFlow(KERNEL, x, y, lambda f, t: F.mse_loss(f, t), start)
    torch.testing.assert_close(solved.predict(new, [0.7, 20.0]), exact, rtol=1e-5, atol=1e-6)


def trained_gap(width: int, draws: int) -> float:
    """How far networks of this width, trained by plain gradient descent, are from their flow."""
    x = torch.tensor([[-1.0], [-0.4], [0.5], [1.2]], dtype=torch.float64)
    y, new = torch.sin(2 * x), torch.tensor([[-2.0], [0.1], [3.0]], dtype=torch.float64)
    gaps = []
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        model = ff.mlp(1, [width], 1).double()
        ff.gaussian_init_(model, 2.0, 0.1, generator)
        limits = ff.infinite_width(model, parameterization="standard")
        before = [p.detach().clone() for p in model.parameters()]
        flow = ff.GradientFlow(limits.ntk, x, y, initial=model)
        step, steps = 0.2 * flow.largest_stable_step, 60
        expected = flow.predict(new, steps=steps, step_size=step)
        optimizer = torch.optim.SGD(model.parameters(), lr=step)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        gaps.append((model(new) - expected).detach().square().mean())
        assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        # The flow has kept the network as it was at its start.
        assert torch.equal(flow.predict(new, steps=steps, step_size=step), expected)
    return float(torch.stack(gaps).mean().sqrt())


def test_agrees_with_trained_networks_better_as_they_widen() -> None:
    narrow, wide = trained_gap(64, 6), trained_gap(4096, 3)
    # The kernel of a network is off by 1 / sqrt(width): (64 / 4096)^(1/2) = 0.125.
    assert wide <= 0.3 * narrow
    assert wide <= 0.05


def test_single_outputs_and_single_precision() -> None:
    x, y = batch(5).float(), batch(5, 1)[:, 0]
    network = ff.mlp(2, [8], 1)  # in float32, as its inputs
    flow = ff.GradientFlow(KERNEL, x, y, initial=network)
    assert flow.predict(x, 1.0).shape == (5,)
    torch.testing.assert_close(flow.predict(x, 0), network(x)[:, 0].detach().double())
    assert flow.predict(x[:0], [1.0, 2.0]).shape == (2, 0)


def test_bad_input_is_refused() -> None:
    x, y = batch(4), batch(4, 1)
    flow = ff.GradientFlow(KERNEL, x, y)
    classes = torch.tensor([0, 1, 2, 0])
    for call, error, message in [
        (lambda: flow.predict(x, -1.0), SettingsError, "A time is -1"),
        (lambda: flow.predict(x, float("nan")), SettingsError, "A time is nan"),
        (lambda: flow.predict(x, []), SettingsError, "There are no times"),
        (lambda: flow.predict(x, 1.0, steps=3), SettingsError, "either a time, or steps"),
        (lambda: flow.predict(x, steps=3), SettingsError, "step_size"),
        (lambda: flow.predict(x, step_size=0.1), SettingsError, "give steps"),
        (lambda: flow.predict(x, steps=-1, step_size=0.1), SettingsError, "at least 0"),
        (lambda: flow.predict(x, steps=1, step_size=0.0), SettingsError, "positive"),
        (lambda: flow.predict(batch(2, 3)), SettingsError, "features of the training"),
        (lambda: ff.GradientFlow(KERNEL, x, y, "hinge"), SettingsError, "loss 'hinge' is unknown"),
        (lambda: ff.GradientFlow(KERNEL, x, y / 0), DataError, "target values"),
        (lambda: ff.GradientFlow(KERNEL, x, classes, "cross_entropy"), SettingsError, "classes"),
        (lambda: ff.GradientFlow(KERNEL, x, y[:, 0], "cross_entropy", classes=2), SettingsError,
         "class indices"),
        (lambda: ff.GradientFlow(KERNEL, x, classes, "cross_entropy", classes=2), SettingsError,
         "from 0 to 2"),
        (lambda: ff.GradientFlow(KERNEL, x, y, initial=lambda x: x).predict(x), SettingsError,
         "initial function gives shape"),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    entropy = ff.GradientFlow(KERNEL, x, classes, "cross_entropy", classes=3)
    with pytest.raises(SettingsError, match="finite time"):
        entropy.predict(x)
    with pytest.raises(SettingsError, match="changes with the outputs"):
        _ = entropy.largest_stable_step
    with pytest.raises(SettingsError, match="must return one number"):
        ff.GradientFlow(KERNEL, x, y, lambda f, y: (f - y) ** 2).predict(x, 1.0)
    exploding = ff.GradientFlow(KERNEL, x, 0 * y + 1, lambda f, y: -(f.exp() * y).sum())
    with pytest.raises(TrainingError, match="could not be solved"), np.errstate(all="ignore"):
        exploding.predict(x, 100.0)
