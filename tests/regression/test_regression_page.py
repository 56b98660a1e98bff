"""docs/regression.md: its examples run, and the numbers of its table are true."""

import re

import pytest
import torch

import farfield as ff
import pages

PAGE = pages.text("regression")


def test_examples_run() -> None:
    printed = pages.printed_by("regression", 7)
    assert "LayerNorm '1'" in printed
    assert "singular in torch.float64" in printed
    assert "1.0 is larger than 0.1" in printed
    assert "Bounded: for every input there is, the prediction of y stays between" in printed
    assert "nan" not in printed
    assert "cg: 400 points" in printed
    assert "off by at most" in printed
    assert "\nstore " in printed
    assert printed.count("True") >= 3


def test_a_row_of_the_toy_table() -> None:
    (cells,) = re.findall(r"^\| LN first \| quadratic \| (.*?) \|$", PAGE, re.M)
    model = ff.mlp(1, [4, 4], 1, norm="layer", norm_at="first")
    model[1].eps = 0.0
    model[1].requires_grad_(False)
    limit = ff.infinite_width(model, {"0": 1.0, "3": 2.0, "5": 2.0}, 0.01)
    x = torch.linspace(-3, 3, 20, dtype=torch.float64)[:, None]
    cert = ff.certify(ff.KernelRegression(limit.ntk).fit(x, x.square()))
    forms = cert.forms
    assert forms is not None
    found = [cert.kernel_bound.value, cert.smallest_eigenvalue, forms.norm, forms.root]
    found += [forms.linear, cert.worst_found.value, cert.fit.predict(25.0 + 0 * x[:1])]
    found.append(cert.along(torch.ones(1)).coefficient)
    assert [float(value) for value in found] == pytest.approx(
        [float(cell) for cell in cells.split(" | ")], rel=1e-2
    )
