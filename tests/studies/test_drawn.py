"""The figures of the studies as objects: every axis named, every line in the legend, in colours
that differ.

Drawing itself is tested in tests/report; here nothing is rendered.
"""

from __future__ import annotations

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas

from farfield.studies import heatmaps, toy, transformer
from farfield.studies.story import Figure, Story

BANDS = 4  # networks of the toy study


@pytest.fixture(scope="module")
def line() -> Story:
    settings = toy.Settings(seeds=2, epochs=20, hidden=(8, 8), points=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "FUNCTIONS", {"quadratic": torch.square})
        return toy.run(settings).story()


@pytest.fixture(scope="module")
def decoder() -> Story:
    small = transformer.Settings(
        seeds=2, epochs=1, layers=1, heads=1, width=4, sequences=2, known=6, far=9, context=2
    )
    return transformer.run(small).story()


@pytest.fixture(scope="module")
def kernels() -> Story:
    return heatmaps.run(heatmaps.Settings(seeds=2, widths=(8, 16), grid=3)).story()


def drawn(story: Story, name: str) -> Canvas:
    (figure,) = (one for one in story.figures if one.name == name)
    return painted(figure)


def painted(figure: Figure) -> Canvas:
    canvas = Canvas(figsize=figure.size, layout="constrained")
    figure.draw(canvas)
    return canvas


def entries(canvas: Canvas) -> list[str]:
    """The legend's entries; there is one legend, that of the whole figure."""
    (legend,) = canvas.legends
    return [text.get_text() for text in legend.get_texts()]


def test_predictions_far_from_the_training_interval(line: Story) -> None:
    canvas = drawn(line, "predictions")
    full, cut = canvas.axes
    assert (full.get_title(), cut.get_xlabel()) == ("quadratic", "x")
    assert (full.get_ylabel(), cut.get_ylabel()) == ("prediction", "prediction, cut")
    networks = ["Standard", "LayerNorm first", "LayerNorm second", "LayerNorm every"]
    assert entries(canvas) == [*networks, "training points"]
    lines = full.get_lines()
    assert [one.get_label() for one in lines] == entries(canvas)
    assert len({to_hex(one.get_color()) for one in lines}) == len(lines)
    assert len({one.get_linestyle() for one in lines[:BANDS]}) == BANDS
    for one in lines[:BANDS]:
        assert (one.get_xdata()[0], one.get_xdata()[-1]) == (-25.0, 25.0)
    assert len(full.collections) == BANDS  # the bands
    # Below it is cut to the networks with LayerNorm and the training points.
    low, high = cut.get_ylim()
    shown = [one.get_ydata() for one in lines[1:]]
    assert low < min(map(min, shown))
    assert high > max(map(max, shown))
    assert high < full.get_ylim()[1] or max(lines[0].get_ydata()) < high


def test_theory_beside_networks(line: Story) -> None:
    canvas = drawn(line, "theory")
    names = [panel.get_title() for panel in canvas.axes]
    assert names == ["Standard", "LayerNorm first", "LayerNorm second", "LayerNorm every"]
    assert {panel.get_xlabel() for panel in canvas.axes} == {"x"}
    assert canvas.axes[0].get_ylabel() == "quadratic: f(x)"
    assert entries(canvas) == [
        *(f"{name}, trained" for name in names),
        "infinite width, exact",
        "training targets",
        "infinite width, bound",
        "trained, proven bound",
        "infinite width, limit",
    ]
    standard, first = canvas.axes[:2]
    told = {one.get_label() for one in standard.get_lines()}
    assert "trained, proven bound" not in told  # nothing bounds it
    (bound,) = (one for one in first.get_lines() if one.get_label() == "trained, proven bound")
    trained = first.get_lines()[
        [one.get_label() for one in first.get_lines()].index(names[1] + ", trained")
    ]
    assert max(trained.get_ydata()) <= bound.get_ydata()[0] * (1 + 1e-6)
    ticks = first.get_yticks()
    assert {-9.0, 0.0, 9.0} <= set(ticks)  # the largest target of x squared up to 3
    assert list(ticks) == sorted(ticks)


def test_sequences_of_the_decoder(decoder: Story) -> None:
    canvas = drawn(decoder, "sequences")
    assert [panel.get_title() for panel in canvas.axes] == [
        *("a = 1, b = 1", "a = 1, b = -1", "random sequences")
    ]
    assert {panel.get_xlabel() for panel in canvas.axes} == {"i"}
    assert [panel.get_ylabel() for panel in canvas.axes] == ["a + b i", "", "mean |error|"]
    assert set(entries(canvas)) == {
        *("seen in training", "Standard", "LayerNorm after the embedding", "truth")
    }
    for panel in canvas.axes:
        assert panel.get_lines()[0].get_xdata()[-1] == 9
    truth = {one.get_label(): one for one in canvas.axes[1].get_lines()}["truth"]
    assert truth.get_ydata()[-1] == pytest.approx(1.0 - 9.0)
    assert canvas.axes[2].get_ylim()[0] == 0.0


def test_maps_and_their_convergence(kernels: Story) -> None:
    canvas = drawn(kernels, "heatmaps")
    maps, bars = canvas.axes[:8], canvas.axes[8:]
    assert maps[0].get_title() == "Standard"
    assert {bar.get_xlabel() for bar in bars} == {"Theta(x, x')"}
    assert maps[0].get_ylabel() == "width 8\nx"
    assert maps[4].get_ylabel() == "exact\nx"
    for above, below in zip(maps[:4], maps[4:], strict=True):
        assert above.images[0].get_clim() == below.images[0].get_clim()  # one scale a column
    convergence = drawn(kernels, "convergence")
    assert convergence.axes[0].get_xlabel() == "width of both hidden layers"
    assert convergence.axes[0].get_ylabel() == "relative error of the kernel"
    assert "slope of 1 / sqrt(width)" in entries(convergence)
    rays = drawn(kernels, "rays")
    assert len(entries(rays)) == 8
    assert [panel.get_xlabel() for panel in rays.axes] == ["x", "x"]
    assert rays.axes[0].get_ylabel() == "Theta(x, 25)"
