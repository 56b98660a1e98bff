"""docs/empirical.md: its examples run and print what they say, its list is that of the rules."""

import re

import pytest
import torch
from torch.nn import functional as F
from zoo import Function

import farfield as ff
import pages
from farfield.empirical.rules import RULES

PAGE = pages.text("empirical")


@pytest.fixture(scope="module")
def printed() -> str:
    """What all blocks print, run one after the other as a reader would."""
    return pages.printed_by("empirical", 8)


def test_examples_run(printed) -> None:
    assert "nan" not in printed
    assert "False" not in printed
    assert "bag.weight - sample by sample: EmbeddingBagBackward0 has no rule" in printed
    assert "The outputs of one input depend on the other inputs of its batch (" in printed
    assert "[0, 5, 10]" in printed


def test_the_list_of_rules() -> None:
    (block,) = re.findall(r"<!-- rules -->\n```text\n(.*?)```", PAGE, re.S)
    assert block.split() == sorted(RULES), " ".join(sorted(RULES))


H = torch.ones(4, 3)


@pytest.mark.parametrize(
    ("node", "operation"),
    [
        ("EmbeddingBag", lambda w, h: F.embedding_bag(h.long(), w.expand(3, 3))),
        ("Trilinear", lambda w, h: F.bilinear(h, h, w.view(1, 1, 3).expand(2, 3, 3))),
        ("Addcmul", lambda w, h: torch.addcmul(w, h, w)),
        ("Addmv", lambda w, h: torch.addmv(w[0], h, w)[:, None]),
        ("Cdist", lambda w, h: torch.cdist(h, 2 * w[None])),
        ("Clamp", lambda w, h: torch.clamp(h, min=w)),
        ("LinalgSolveEx", lambda w, h: torch.linalg.solve(w.diag(), h.T).T),
        ("Maximum", lambda w, h: torch.maximum(h, w)),
        ("Minimum", lambda w, h: torch.minimum(h, w)),
        ("Pow", lambda w, h: (2 * h) ** w),
        ("Rsub", lambda w, h: torch.rsub(h, w)),
    ],
)
def test_the_list_of_what_is_taken_sample_by_sample(node, operation) -> None:
    (block,) = re.findall(r"<!-- sample by sample -->\n```text\n(.*?)```", PAGE, re.S)
    assert node in block.split()
    model = Function(lambda m, h: operation(m.w, h), w=torch.tensor([1.0, 1.5, 2.0]))
    (entry,) = ff.empirical_ntk(model, outputs="sum").explain(H)
    assert re.fullmatch(rf"sample by sample: {node}Backward\d has no rule", entry.way)
