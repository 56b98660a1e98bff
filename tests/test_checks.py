"""The type and shape checks of the tests are at work: a test that relies on them can fail."""

import pytest
import torch
from jaxtyping import TypeCheckError

import farfield as ff
from farfield.infinite.safe import safe_sqrt


def test_types_are_checked_everywhere() -> None:
    with pytest.raises(Exception, match="safe_sqrt") as caught:
        safe_sqrt("text")
    assert "beartype" in type(caught.value).__module__


def test_shapes_are_checked_where_they_are_written() -> None:
    kernel = ff.Kernel(lambda a, b: a @ b.T, lambda a: a.sum(1))
    with pytest.raises(TypeCheckError):
        kernel(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(TypeCheckError):
        ff.infinite_width(ff.mlp(3, [4], 1)).diagonal(torch.ones(3, dtype=torch.int64))
