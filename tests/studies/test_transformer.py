"""The transformer study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from drawing import drawn, entries
from farfield.errors import SettingsError
from farfield.studies import transformer
from farfield.studies.shared.story import Story
from farfield.studies.transformer.decoder import Decoder

SMALL = transformer.Settings(
    seeds=2,
    layers=1,
    heads=2,
    width=8,
    known=6,
    far=12,
    context=4,
    sequences=10,
    tests=5,
    epochs=4,
    batch_size=10,
)


def by_hand(network: Decoder, x: torch.Tensor) -> torch.Tensor:
    """One layer of one sequence, head by head and token by token, from the textbook."""
    block = network.blocks[0]
    tokens, width = len(x), network.embedding.out_features
    h = torch.stack([network.embedding(value[None]) for value in x])
    for p in range(tokens):
        for c in range(width // 2):
            angle = torch.tensor(p / 10000 ** (2 * c / width))
            h[p, 2 * c] += angle.sin()
            h[p, 2 * c + 1] += angle.cos()
    if isinstance(network.norm, torch.nn.LayerNorm):
        h = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    size = width // block.heads
    weight, bias = block.query_key_value.weight, block.query_key_value.bias
    seen = torch.zeros(tokens, width)
    for head in range(block.heads):
        own = slice(head * size, (head + 1) * size)
        q, k, v = (
            h @ w[own].T + b[own] for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True)
        )
        for t in range(tokens):
            shares = torch.exp(q[t] @ k[: t + 1].T / size**0.5)
            seen[t, own] = shares @ v[: t + 1] / shares.sum()
    h = h + block.mix(seen)
    h = h + block.down(block.up(h).clamp(min=0))
    return network.read_out(h)[:, 0]


@pytest.mark.parametrize("norm", [False, True])
def test_the_decoder_is_that_of_the_textbook(norm: bool) -> None:
    torch.manual_seed(0)
    network = Decoder(tokens=5, width=8, heads=2, layers=1, norm=norm)
    x = torch.randn(3, 5)
    with torch.no_grad():
        found = network(x)
        expected = torch.stack([by_hand(network, row) for row in x])
        later = network(torch.cat([x[:, :-1], x[:, -1:] + 1.0], 1))
    # float32, some ten operations one after the other.
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    # A prediction does not know the numbers after it.
    assert torch.equal(found[:, :-1], later[:, :-1])


def sequences_are_drawn(story: Story) -> None:
    canvas = drawn(story, "sequences")
    titles = [panel.get_title() for panel in canvas.axes]
    assert titles == ["a = 1, b = 1", "a = 1, b = -1", "random sequences"]
    assert [panel.get_ylabel() for panel in canvas.axes] == ["a + b i", "", "mean |error|"]
    networks = {"Standard", "LayerNorm after the embedding"}
    assert set(entries(canvas)) == {"seen in training", *networks, "truth"}
    for panel in canvas.axes:
        assert panel.get_xlabel() == "i"
        lines = {str(line.get_label()): line for line in panel.get_lines()}
        assert networks <= set(lines)
        assert len({line.get_color() for line in lines.values()}) == len(lines)
        assert len({line.get_linestyle() for line in map(lines.get, networks) if line}) == 2
        assert all(line.get_xdata()[-1] == SMALL.far for line in lines.values())
    truth = {line.get_label(): line for line in canvas.axes[1].get_lines()}["truth"]
    assert truth.get_ydata()[-1] == pytest.approx(1.0 - SMALL.far)
    assert canvas.axes[2].get_ylim()[0] == 0.0


def test_the_study_measures_and_certifies(tmp_path: Path) -> None:
    result = transformer.run(SMALL, out=tmp_path)
    standard, normed = (result.certificates[key] for key in ("standard", "first"))
    assert standard.bounded is False
    assert normed.bounded
    assert "LayerNorm 'decoder.norm'" in normed.reason
    told = result.predictions
    assert len(told) == 2 * 2 * (2 + 5) * (12 - 4)
    first = told[told["sequence"] == 0]
    assert np.allclose(first["truth"], 1.0 + first["i"])
    # The errors again, from the table of predictions.
    drawn = told[(told["sequence"] >= 2) & (told["i"] == 12)]
    errors = (drawn["truth"] - drawn["prediction"]).abs().groupby([drawn["variant"], drawn["seed"]])
    own = result.metrics.set_index(["variant", "seed"])["error_at_far"]
    assert np.allclose(errors.mean().loc[own.index], own)
    story = result.story()
    assert story.answer.startswith("Yes, and it is proven")
    assert list(story.tables[1].frame["verdict"]) == [standard.verdict, normed.verdict]
    sequences_are_drawn(story)

    again = transformer.run(SMALL, out=tmp_path, resume=True)
    pd.testing.assert_frame_equal(result.metrics, again.metrics, check_exact=True)
    pd.testing.assert_frame_equal(result.predictions, again.predictions, check_exact=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"heads": 5}, "a multiple of the 5 heads"),
        ({"context": 30}, "must increase"),
        ({"far": 6}, "must increase"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_settings_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SMALL, **values)  # type: ignore[arg-type]
