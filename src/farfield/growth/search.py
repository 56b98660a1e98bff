"""The worst input that can be found: rays to 1e12, and ascent from many starts, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.growth.domain import Domain
from farfield.growth.escape import FINE, RADII, Escape, overflowing, rounding_noise, steepest
from farfield.growth.evaluate import Evaluate

_CHUNK = 1024
_OVERFLOWS = 4  # rays that are looked at for growth beyond every power


@dataclass(frozen=True)
class Effort:
    """How long to search.

    Attributes:
        rays: Random directions.
        starts: Starts of the ascent, for each output and side.
        steps: Steps of the ascent.
        outputs: How many outputs are searched by ascent, the largest first.
        cells: Cells of inputs at most, into which networks of few inputs are cut; this is how
            long to tighten the bound rather than to search.
        seed: Of the random numbers; those of PyTorch are left alone.
        descent: Steps of the multipliers at most, for each end of the interval of an output: how
            long to tighten the bound of layers one behind the other.
    """

    rays: int = 128
    starts: int = 24
    steps: int = 60
    outputs: int = 4
    cells: int = 30_000
    seed: int = 0
    descent: int = 120


@dataclass(frozen=True, eq=False)
class Found:
    """The largest output that was found.

    Attributes:
        value: The largest absolute value of any output.
        input: The input that gives it, without the batch.
        output: The index of the output, counted in the flattened output.
        lower: Least value found of each output, flattened.
        upper: Largest value found.
        evaluations: How many inputs were tried.
    """

    value: float
    input: Tensor
    output: int
    lower: Tensor
    upper: Tensor
    evaluations: int


class Search:
    """A search for large outputs; it only tells what it found.

    Args:
        evaluate: The model, (n, *shape) -> (n, outputs), in float64.
        rough: The same in float32.
        domain: Where to search.
        effort: How long.
    """

    def __init__(self, evaluate: Evaluate, rough: Evaluate, domain: Domain, effort: Effort) -> None:
        self._evaluate, self._rough = evaluate, rough
        self._domain = domain
        self._effort = effort
        self._vocabulary = domain.vocabulary
        self._generator = torch.Generator().manual_seed(effort.seed)
        self._count = 0
        self._lower: Tensor | None = None
        self._upper: Tensor | None = None
        self._at: dict[tuple[int, int], Tensor] = {}

    def worst(self) -> Found:
        """Search."""
        pool = self._tokens() if self._vocabulary else torch.cat([self._rays(), self._scattered()])
        values = self._look(pool)
        if self._vocabulary:
            self._swap(pool, values)
        else:
            self._climb(pool, values)
        return self.found()

    def found(self) -> Found:
        """The largest output so far."""
        assert self._lower is not None
        assert self._upper is not None
        sizes = torch.maximum(self._lower.abs(), self._upper.abs())
        output = int(sizes.argmax())
        side = int(self._upper[output].abs() >= self._lower[output].abs())
        where = self._at.get(
            (output, side), self._domain.clamp(torch.zeros(self._domain.shape).double())
        )
        return Found(float(sizes[output]), where, output, self._lower, self._upper, self._count)

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate at some more inputs; the least and largest value of each output so far."""
        self._look(self._near(self._domain.clamp(x)))
        assert self._lower is not None
        assert self._upper is not None
        return self._lower, self._upper

    def escape(self, degree: float) -> Escape | None:
        """A ray on which an output grows without an end in sight, if one is found.

        Args:
            degree: No output grows faster than |x|^degree.
        """
        free = self._domain.lower.isinf() | self._domain.upper.isinf()
        if self._vocabulary or not bool(free.any()):
            return None
        base = self._domain.clamp(torch.zeros_like(self._domain.lower))
        rays = self._directions(4 * self._effort.starts)
        rays = self._climb_rays(rays, base)
        outputs = torch.stack([self._values(base + radius * rays) for radius in RADII])
        for row in outputs[-1].isinf().any(1).nonzero().flatten()[:_OVERFLOWS].tolist():
            radii = torch.tensor(FINE, dtype=torch.float64)
            along = self._values(base + _rows(radii, base[None]) * rays[row])
            if (found := overflowing(rays[row], along, degree)) is not None:
                return found
        return steepest(rays, outputs, self._noise(base + RADII[-1] * rays), degree)

    def _noise(self, x: Tensor) -> Tensor:
        """What rounding can make of outputs that are 0: (m,)."""
        rounded = x.float()
        try:
            with torch.no_grad():
                rough = torch.cat([self._rough(part) for part in rounded.split(_CHUNK)])
        except RuntimeError:  # the model insists on float64
            return torch.zeros((), dtype=torch.float64)
        return rounding_noise(self._values(rounded.double()), rough.double())

    def _climb_rays(self, rays: Tensor, base: Tensor) -> Tensor:
        """Turn rays so that an output at radius 1e6 grows."""
        radius, size = RADII[1], 0.3
        best = self._values(base + radius * rays)
        goals = best.abs().nan_to_num(0.0, 0.0, 0.0).argmax(1)
        score = best.abs().gather(1, goals[:, None])[:, 0]
        for _ in range(self._effort.steps):
            slope = self._slope(
                lambda x: self._evaluate(base + radius * x).gather(1, goals[:, None]).abs(), rays
            )
            if slope is None:
                break
            slope = self._allowed(slope)
            tried = self._unit(rays + size * self._unit(slope))
            found = self._values(base + radius * tried).gather(1, goals[:, None])[:, 0].abs()
            better = found > score
            rays = torch.where(_rows(better, rays), tried, rays)
            score = torch.where(better, found, score)
            size *= 0.9
        return rays

    def _climb(self, pool: Tensor, values: Tensor) -> None:
        """Ascent from the best of the pool and from some others, each start for one goal."""
        starts, goals, signs = [], [], []
        outputs = values.shape[1]
        order = values.abs().nan_to_num(0.0, 0.0, 0.0).amax(0).argsort(descending=True)
        for output in order[: self._effort.outputs].tolist():
            for sign in (1.0, -1.0):
                score = (sign * values[:, output]).nan_to_num(-math.inf)
                top = score.topk(min(self._effort.starts // 2, len(pool))).indices
                other = torch.randint(
                    len(pool), (self._effort.starts // 2,), generator=self._generator
                )
                chosen = torch.cat([top, other])
                starts.append(pool[chosen])
                goals += [output] * len(chosen)
                signs += [sign] * len(chosen)
        if not starts or not outputs:
            return
        x, goal = torch.cat(starts), torch.tensor(goals)
        sign_of = torch.tensor(signs, dtype=torch.float64)
        self._ascend(x, goal, sign_of)

    def _ascend(self, x: Tensor, goal: Tensor, sign: Tensor) -> None:
        """Steps along the gradient, as long as a share of the input; shorter where they fail."""
        score = self._goal(self._look(x), goal, sign)
        step = torch.full((len(x),), 0.3, dtype=torch.float64)
        for _ in range(self._effort.steps):
            slope = self._slope(lambda u: self._goal(self._evaluate(u), goal, sign), x)
            if slope is None:
                return
            size = x.flatten(1).norm(dim=1).clamp(min=1e-3) * step
            tried = self._near(self._domain.clamp(x + _rows(size, x) * self._unit(slope)))
            found = self._goal(self._look(tried), goal, sign)
            better = found > score
            x = torch.where(_rows(better, x), tried, x)
            score = torch.where(better, found, score)
            step = torch.where(better, step * 1.3, step * 0.5)

    def _slope(self, function: Evaluate, x: Tensor) -> Tensor | None:
        """The gradient, with 0 where it is no number; nothing if the function is flat everywhere.

        A random direction where a step of the model has no derivative, or changes in place what
        its derivative needs.
        """
        here = x.clone().requires_grad_()
        try:
            with torch.enable_grad():
                value = function(here).sum()
            if not value.requires_grad:
                return None
            (found,) = torch.autograd.grad(value, here, allow_unused=True)
        except RuntimeError:
            return torch.randn(x.shape, dtype=x.dtype, generator=self._generator)
        return None if found is None else found.nan_to_num(0.0, 0.0, 0.0)

    def _near(self, x: Tensor) -> Tensor:
        """Inputs beyond the largest radius drawn back to it."""
        size = x.flatten(1).norm(dim=1)
        shrink = (RADII[-1] / size.clamp(min=1e-300)).clamp(max=1.0)
        return self._domain.clamp(torch.where(_rows(shrink < 1, x), x * _rows(shrink, x), x))

    def _goal(self, values: Tensor, goal: Tensor, sign: Tensor) -> Tensor:
        return (values.gather(1, goal[:, None])[:, 0] * sign).nan_to_num(-math.inf)

    def _swap(self, pool: Tensor, values: Tensor) -> None:
        """Change one token at a time, and keep what makes an output larger."""
        for sign in (1.0, -1.0):
            for output in range(min(values.shape[1], self._effort.outputs)):
                score = sign * values[:, output]
                best = score.topk(min(self._effort.starts, len(pool)))
                x, kept = pool[best.indices], best.values
                for _ in range(self._effort.steps):
                    tried = x.clone().flatten(1)
                    rows = torch.arange(len(x))
                    at = torch.randint(tried.shape[1], (len(x),), generator=self._generator)
                    assert self._vocabulary is not None
                    tried[rows, at] = torch.randint(
                        self._vocabulary, (len(x),), generator=self._generator
                    )
                    tried = tried.reshape(x.shape)
                    found = sign * self._look(tried)[:, output]
                    better = found > kept
                    x = torch.where(_rows(better, x), tried, x)
                    kept = torch.where(better, found, kept)

    def _tokens(self) -> Tensor:
        assert self._vocabulary is not None
        size = (8 * self._effort.rays, *self._domain.shape)
        return torch.randint(self._vocabulary, size, generator=self._generator)

    def _rays(self) -> Tensor:
        """Directions times radii from 1e-3 to 1e12, both ways; axes among them."""
        rays = self._directions(self._effort.rays)
        radii = 10.0 ** torch.arange(-3, 13, dtype=torch.float64)
        x = (radii.reshape(-1, 1, *(1,) * (rays.ndim - 1)) * rays).flatten(0, 1)
        return self._domain.clamp(x)

    def _scattered(self) -> Tensor:
        """Inputs of all scales, evenly in a box where there is one, and its corners."""
        count, shape = 4 * self._effort.rays, self._domain.shape
        scale = 10.0 ** torch.empty(count, dtype=torch.float64).uniform_(
            -2, 3, generator=self._generator
        )
        x = torch.randn((count, *shape), dtype=torch.float64, generator=self._generator)
        x = x * _rows(scale, x)
        share = torch.rand((count, *shape), dtype=torch.float64, generator=self._generator)
        share[::2] = share[::2].round()
        low, high = self._domain.lower, self._domain.upper
        walled = low.isfinite() & high.isfinite()
        width = torch.where(walled, high - low, 0.0)
        inside = torch.where(walled, low, 0.0) + share * width
        return self._domain.clamp(torch.where(walled, inside, x))

    def _directions(self, count: int) -> Tensor:
        """Directions in the entries without walls: random ones, and the axes."""
        shape = self._domain.shape
        size = math.prod(shape)
        rays = torch.randn((count, size), dtype=torch.float64, generator=self._generator)
        if size <= count // 4:
            axes = torch.eye(size, dtype=torch.float64)
            rays[: 2 * size] = torch.cat([axes, -axes])
        return self._unit(self._allowed(rays.reshape(count, *shape)))

    def _allowed(self, directions: Tensor) -> Tensor:
        """Without what would run into a wall."""
        low, high = self._domain.lower, self._domain.upper
        blocked = ((directions < 0) & low.isfinite()) | ((directions > 0) & high.isfinite())
        return torch.where(blocked, 0.0, directions)

    def _unit(self, x: Tensor) -> Tensor:
        size = x.flatten(1).norm(dim=1).clamp(min=1e-300)
        return x / _rows(size, x)

    def _values(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self._evaluate(part) for part in x.split(_CHUNK)])

    def _look(self, x: Tensor) -> Tensor:
        """Evaluate, and remember the extremes."""
        values = self._values(x)
        self._count += len(x)
        known = ~values.isnan()
        least = torch.where(known, values, math.inf).min(0)
        most = torch.where(known, values, -math.inf).max(0)
        if self._lower is None or self._upper is None:
            self._lower = torch.full_like(least.values, math.inf)
            self._upper = torch.full_like(most.values, -math.inf)
        for output in (least.values < self._lower).nonzero().flatten().tolist():
            self._at[output, 0] = x[least.indices[output]].clone()
        for output in (most.values > self._upper).nonzero().flatten().tolist():
            self._at[output, 1] = x[most.indices[output]].clone()
        self._lower = torch.minimum(self._lower, least.values)
        self._upper = torch.maximum(self._upper, most.values)
        return values


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """One number for each row, to be combined with rows of any shape."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))
