"""Inputs that are zero: equal ones have equal kernels, whatever the batch they stand in."""

import pytest
import torch
from architectures import ACTIVATIONS, NORMS, Block, Blocks

import farfield as ff
from farfield.infinite import kernel as kernel_module


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("before", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_two_zeros_are_equal(activation, before, fused, monkeypatch) -> None:
    # Without biases nothing but the slopes tells anything of a zero, and a trained norm's bias
    # makes the tangent kernel see them.
    monkeypatch.setattr(kernel_module, "_WORTH_COMPILING", 0 if fused else 10**9)
    model = Blocks([Block("plain", activation, before), Block("plain", "relu")], bias=False)
    x = torch.tensor([[0.0, 0, 0], [1, -2, 0.5], [0, 0, 0]], dtype=torch.float64)
    limit = ff.infinite_width(model, weight_var=2.0)
    for kernel in (limit.nngp, limit.ntk):
        matrix = kernel(x)
        # To rounding: the diagonal is computed from the rows alone.
        torch.testing.assert_close(matrix[0, 2], matrix[0, 0], rtol=1e-15, atol=0)
        torch.testing.assert_close(matrix[0], matrix[2], rtol=1e-15, atol=0)
        torch.testing.assert_close(kernel(x, x.clone()), matrix, rtol=1e-14, atol=0)
    assert (limit.ntk(x)[0, 0] > 0) == (before == "layer")


def test_rounding_never_takes_an_angle_beyond_a_half_turn() -> None:
    # 1 + cos of these opposite units was -2e-16 behind the second norm, and its root NaN.
    x = torch.tensor([[1.4636, -1.65, -1.0563], [-1.4636, 1.65, 1.0563]], dtype=torch.float64)
    blocks = [Block("gate", "erf", "plain layer", "plain layer"), Block("plain", "relu")]
    for matrix in ff.infinite_width(Blocks(blocks, eps=1e-12, bias=False), 2.0)(x):
        assert matrix.isfinite().all()
