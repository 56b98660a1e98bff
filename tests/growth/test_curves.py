"""Intervals, grids and bends of functions of one variable, against the functions themselves."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from farfield.growth.bound_tensor import BoundTensor, Reading
from farfield.growth.certificate import rules
from farfield.growth.graph import Free, Pointwise
from random_networks import ACTIVATIONS

assert rules is not None  # importing them registers them

GENERATOR = torch.Generator().manual_seed(0)


def pointwise(module: nn.Module, lower: torch.Tensor, upper: torch.Tensor):
    """The nodes that a module makes of a box."""
    reading = Reading()
    degree = torch.where(lower.isinf() | upper.isinf(), 1.0, 0.0).double()
    node = reading.add("input", lower[None], upper[None], degree[None], Free(is_input=True))
    result = module(BoundTensor(node, reading))
    return reading, result.node


def boxes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Intervals of all sizes and places, some of them single points."""
    middle = 5.0 * torch.randn(count, generator=GENERATOR).double()
    size = 10.0 ** torch.empty(count).uniform_(-6, 1.5, generator=GENERATOR).double()
    size[::7] = 0.0
    return middle - size, middle + size * torch.rand(count, generator=GENERATOR).double()


@pytest.mark.parametrize("index", range(len(ACTIVATIONS)))
def test_values_stay_in_the_interval(index: int) -> None:
    torch.manual_seed(index)
    module = ACTIVATIONS[index]().double().eval()
    lower, upper = boxes(8)
    _, node = pointwise(module, lower, upper)
    share = torch.linspace(0, 1, 401).double()[:, None]
    x = (lower + share * (upper - lower)).clamp(lower, upper)
    values = module(x)
    assert (values >= node.lower[0]).all()
    assert (values <= node.upper[0]).all()
    if len(node.parents) == 1 and node.parents[0].index == 0:  # one function: nearly exact
        # 401 points miss an extremum by at most half a step times the slope, here below 4.
        room = 1e-9 + (upper - lower) / 200
        jump = isinstance(module, nn.Hardshrink | nn.Threshold)
        if not jump:
            assert (node.lower[0] >= values.amin(0) - room).all()
            assert (node.upper[0] <= values.amax(0) + room).all()


@pytest.mark.parametrize("index", range(len(ACTIVATIONS)))
def test_values_stay_in_half_infinite_intervals(index: int) -> None:
    torch.manual_seed(index)
    module = ACTIVATIONS[index]().double().eval()
    ends = torch.linspace(-6, 6, 25).double()
    infinite = torch.full_like(ends, math.inf)
    far = torch.cat([torch.linspace(0, 20, 400), torch.logspace(1.3, 3, 100)]).double()[:, None]
    for lower, upper, x in (
        (ends, infinite, ends + far), (-infinite, ends, ends - far), (-infinite, infinite, far),
        (-infinite, infinite, -far),
    ):  # fmt: skip
        _, node = pointwise(module, lower, upper)
        values = module(x)
        assert (values >= node.lower[0]).all()
        assert (values <= node.upper[0]).all()


@pytest.mark.parametrize("index", range(len(ACTIVATIONS)))
def test_grids_enclose_the_function_and_its_bend(index: int) -> None:
    torch.manual_seed(index)
    module = ACTIVATIONS[index]().double().eval()
    lower, upper = boxes(30)
    reading, _ = pointwise(module, lower, upper)
    for node in reading.nodes:
        if not isinstance(node.step, Pointwise) or node.step.curve.bend is None:
            continue
        curve, (below,) = node.step.curve, node.parents
        grid = curve.grid(below.lower, below.upper)
        left, right = grid.points[:-1], grid.points[1:]
        assert (left[1:] == right[:-1]).all()
        assert (grid.points[0] == below.lower).all()
        assert (grid.points[-1] == below.upper).all()
        for share in (0.1, 0.37, 0.5, 0.83):
            y = left + share * (right - left)
            line = grid.values[:-1] + share * (grid.values[1:] - grid.values[:-1])
            # The line is off by what y itself is rounded.
            room = grid.error + 1e-13 * (1.0 + line.abs())
            assert ((curve.value(y) - line).abs() <= room).all(), curve.name


@pytest.mark.parametrize("index", range(len(ACTIVATIONS)))
def test_lines_and_asymptotes_are_as_near_as_they_say(index: int) -> None:
    torch.manual_seed(index)
    module = ACTIVATIONS[index]().double().eval()
    lower, upper = boxes(30)
    reading, _ = pointwise(module, lower, upper)
    share = torch.linspace(0, 1, 201).double()[:, None, None]
    far = torch.cat([torch.linspace(0, 30, 601), torch.logspace(1, 9, 50)]).double()
    for node in reading.nodes:
        if not isinstance(node.step, Pointwise) or node.step.curve.bend is None:
            continue
        curve, (below,) = node.step.curve, node.parents
        slope, height, error = curve.line(below.lower, below.upper)
        y = below.lower + share * (below.upper - below.lower)
        line = slope * y + height
        room = error + 1e-13 * (1.0 + line.abs() + (slope * y).abs())
        assert ((curve.value(y) - line).abs() <= room).all(), curve.name
        if curve.asymptotes is not None:
            left, right, rest = curve.asymptotes
            y = torch.cat([-far, far])[:, None, None].expand(-1, 1, 30)
            corner = torch.where(y > 0, right * y, left * y)
            room = rest + 1e-13 * y.abs()
            assert ((curve.value(y) - corner).abs() <= room).all(), curve.name


def test_bends_are_not_smaller_than_second_differences() -> None:
    h = 1e-3
    points = torch.linspace(-12, 12, 2001).double() + 1e-4
    for make in ACTIVATIONS:
        reading, _ = pointwise(make().double().eval(), points, points)
        for node in reading.nodes:
            if not isinstance(node.step, Pointwise) or node.step.curve.bend is None:
                continue
            curve, y = node.step.curve, node.parents[0].lower.flatten()
            for kink in curve.kinks:
                y = y[(y - kink).abs() > 2 * h]
            if curve.name in ("prelu", "leaky_relu"):
                continue  # lines, with a slope for each unit
            value = curve.value
            second = (value(y + h) - 2 * value(y) + value(y - h)) / h**2
            # Differences are rounded by 4e-16 / h^2 of the values.
            room = 1e-9 * (1.0 + value(y).abs())
            assert (second.abs() <= curve.bend(y - h, y + h) + room).all(), curve.name


def test_degrees() -> None:
    everything = torch.full((1,), -math.inf).double(), torch.full((1,), math.inf).double()
    below = torch.full((1,), -math.inf).double(), torch.zeros(1).double()
    for function, box, degree in (
        (F.relu, everything, 1.0), (F.relu, below, 0.0), (F.silu, below, 0.0),
        (F.elu, below, 0.0), (torch.square, everything, 2.0), (lambda u: u**3, everything, 3.0),
        (torch.exp, everything, math.inf), (torch.exp, below, 0.0), (torch.tanh, everything, 0.0),
        (lambda u: (u * u + 1).sqrt(), everything, 1.0),
        (lambda u: (u * u + 1).log(), everything, 0.0),  # slower than any power, yet unbounded
    ):  # fmt: skip
        _, node = pointwise(function, *box)
        assert float(node.degree.max()) == degree
    assert not node.is_bounded
