"""Every rule against the function itself: values at random inputs stay in the interval.

What is linear must also be exact: the corners of a box attain the interval.
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.growth import Effort, certify_model
from farfield.growth.bound_tensor import RULES, BoundTensor, Reading
from farfield.growth.certificate import rules
from farfield.growth.graph import Free
from random_networks import Apply

assert rules is not None  # importing them registers them

G = torch.Generator().manual_seed(0)
W = torch.randn(6, 6, generator=G).double()
MASK = torch.tensor([True, False, True, True, False, True])
INDEX = torch.tensor([3, 0, 0, 5])

# Functions of a value of shape (1, 4, 6).
LINEAR = {
    "linear": lambda x: F.linear(x, W, W[0]),
    "x @ W": lambda x: x @ W,
    "W @ x": lambda x: W[:4, :4] @ x,
    "matmul": lambda x: torch.matmul(x, W),
    "einsum": lambda x: torch.einsum("bij,jk->bik", x, W),
    "x + c": lambda x: x + W[0],
    "c - x": lambda x: W[0] - x,
    "x - c": lambda x: x - 3,
    "x / c": lambda x: x / (W[0] + 4.0),
    "x * c": lambda x: 2 * x * W[0],
    "-x": lambda x: -x,
    "add in place": lambda x: x.clone().add_(W[0]),
    "sum of two": lambda x: x[:, :2] + 2.0 * x[:, 2:],
    "difference of two": lambda x: torch.sub(x[:, :2], x[:, 2:], alpha=0.5),
    "reshape": lambda x: x.reshape(1, 24).view(1, 6, 4),
    "transpose": lambda x: x.transpose(1, 2).mT.permute(0, 2, 1),
    "index": lambda x: x[:, 1:3, ::2],
    "index by a tensor": lambda x: x[..., INDEX],
    "index_select": lambda x: x.index_select(2, INDEX),
    "unsqueeze": lambda x: x.unsqueeze(1).squeeze(1).flatten(1).unflatten(1, (4, 6)),
    "expand": lambda x: x.mean(1, keepdim=True).expand(1, 4, 6),
    "repeat": lambda x: x.repeat(1, 2, 1).flip(1).roll(1, 2),
    "chunk": lambda x: x.chunk(2, -1)[1] - x.split(3, -1)[0],
    "unbind": lambda x: x.unbind(1)[2],
    "cat": lambda x: torch.cat([x, torch.ones(1, 4, 2).double(), -x], -1),
    "stack": lambda x: torch.stack([x, 2 * x], 1),
    "sum": lambda x: x.sum((1, 2), keepdim=True),
    "mean": lambda x: torch.mean(x, -1),
    "cumsum": lambda x: x.cumsum(1),
    "pad": lambda x: F.pad(x, (1, 2), value=0.7),
    "pad by copies": lambda x: F.pad(x, (1, 2), mode="replicate"),
    "avg_pool1d": lambda x: F.avg_pool1d(x, 3, 2),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x, 4),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2.0, mode="linear"),
    "conv1d": lambda x: F.conv1d(x, W[:2, :4, None].expand(2, 4, 3), W[0, :2], padding=1),
    "conv_transpose1d": lambda x: F.conv_transpose1d(x, W[:4, :2, None].expand(4, 2, 3)),
    "conv2d": lambda x: F.conv2d(x[:, None], W[:2, None, :3, None].expand(2, 1, 3, 2)),
    "batch_norm": lambda x: F.batch_norm(
        x, W[0, :4], W[1, :4].abs(), W[2, :4], W[3, :4], training=False
    ),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "where with a constant condition": lambda x: torch.where(MASK, x, 2.0),
    "masked_fill": lambda x: x.masked_fill(MASK, -1.0),
    "tril": lambda x: x.tril(),
    "to": lambda x: x.to(torch.float64).contiguous().clone(),
    "addmm": lambda x: torch.addmm(W[0], x[0], W)[None],
}
OTHER = {
    "product": lambda x: x[:, :2] * x[:, 2:],
    "square": lambda x: x * x,
    "quotient": lambda x: x / (2.0 + x.flip(1) ** 2),
    "number over x": lambda x: 1.0 / (1.0 + x.abs()),
    "matmul of two": lambda x: x @ x.mT,
    "softmax": lambda x: x.softmax(-1),
    "softmin": lambda x: F.softmin(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "weighted mean": lambda x: x.softmax(-1)[..., :4] @ x,
    "attention by hand": lambda x: (x @ x.mT / 2.0).softmax(-1) @ x,
    "attention": lambda x: F.scaled_dot_product_attention(x, 2 * x, -x),
    "causal attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "masked attention": lambda x: F.scaled_dot_product_attention(
        x, x, x, attn_mask=torch.tensor([True, True, False, True]).expand(4, 4)
    ),
    "glu": lambda x: F.glu(x, -1),
    "max_pool1d": lambda x: F.max_pool1d(x, 2),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "adaptive_max_pool1d": lambda x: F.adaptive_max_pool1d(x, 3),
    "amax": lambda x: x.amax(-1) - x.amin(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "maximum": lambda x: torch.maximum(x[:, :2], x[:, 2:]),
    "minimum with a constant": lambda x: torch.minimum(x, W[0]),
    "where": lambda x: torch.where(x > 0.3, x, -2 * x),
    "comparison": lambda x: (x <= 0.1) * x,
    "layer_norm": lambda x: F.layer_norm(x, (6,), W[0], W[1]),
    "layer_norm over two": lambda x: F.layer_norm(x, (4, 6), eps=0.3),
    "rms_norm": lambda x: F.rms_norm(x, (6,), W[0]),
    "group_norm": lambda x: F.group_norm(x, 2, W[0, :4], W[1, :4]),
    "instance_norm": lambda x: F.instance_norm(x),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "norm of a norm": lambda x: F.layer_norm(F.gelu(F.layer_norm(x, (6,))), (6,)),
    "sqrt": lambda x: (x.square().sum(-1) + 0.1).sqrt(),
    "log": lambda x: (1.0 + x.exp()).log() + torch.log1p(x.abs()),
    "power": lambda x: (x.abs() + 0.1) ** 1.5 + x.abs().pow(0.5) + (x * x + 1) ** -2,
    "expm1": lambda x: x.expm1().sign().clamp_min(-0.5),
    "atan": lambda x: torch.atan(x) + x.asinh(),
    "relu in place": lambda x: F.relu(x.clone(), inplace=True),
}


def read(function, lower, upper):
    reading = Reading()
    degree = torch.where(lower.isinf() | upper.isinf(), 1.0, 0.0).double()
    node = reading.add("input", lower, upper, degree, Free(is_input=True))
    return function(BoundTensor(node, reading)).node


@pytest.mark.parametrize("name", [*LINEAR, *OTHER])
@pytest.mark.parametrize("size", [0.0, 0.1, 30.0])
def test_values_stay_in_the_interval(name: str, size: float) -> None:
    function = {**LINEAR, **OTHER}[name]
    generator = torch.Generator().manual_seed(1)
    middle = torch.randn(1, 4, 6, generator=generator).double()
    share = torch.rand(1, 4, 6, generator=generator).double()
    lower, upper = middle - size * share, middle + size * (1 - share)
    node = read(function, lower, upper)
    for step in range(60):
        part = torch.rand(1, 4, 6, generator=generator).double()
        part = part.round() if step % 2 else part
        value = function((lower + part * (upper - lower)).clamp(lower, upper))
        assert node.shape == tuple(value.shape)
        # Values and bounds are both rounded.
        room = 1e-13 * (1.0 + value.abs())
        assert (value >= node.lower - room).all()
        assert (value <= node.upper + room).all()


@pytest.mark.parametrize("name", LINEAR)
def test_linear_functions_are_exact(name: str) -> None:
    """Against the Jacobian: ends are the middle plus and minus |J| times half of the width."""
    function = LINEAR[name]
    middle, half = W[:4][None], W[:4].abs()[None].flip(1)
    node = read(function, middle - half, middle + half)
    jacobian = torch.autograd.functional.jacobian(function, middle)
    value = function(middle)
    spread = jacobian.abs().reshape(value.numel(), 24) @ half.flatten()
    torch.testing.assert_close(node.lower, value - spread.reshape(value.shape))
    torch.testing.assert_close(node.upper, value + spread.reshape(value.shape))


@pytest.mark.parametrize("name", [*LINEAR, *OTHER])
def test_values_and_degrees_on_everything(name: str) -> None:
    function = {**LINEAR, **OTHER}[name]
    infinite = torch.full((1, 4, 6), math.inf).double()
    if name == "expm1":
        return
    node = read(function, -infinite, infinite)
    generator = torch.Generator().manual_seed(2)
    for radius in (1e-3, 1.0, 1e3, 1e6):
        for _ in range(8):
            x = radius * torch.randn(1, 4, 6, generator=generator).double()
            value = function(x)
            known = value.isfinite()
            assert (value >= node.lower)[known].all()
            assert (value <= node.upper)[known].all()
            if radius == 1e6 and math.isfinite(node.degree.max()):
                far = function(1e3 * x)
                both = known & far.isfinite() & (value.abs() > 1e-6)
                growth = (far.abs() / value.abs().clamp(min=1e-300)).log10() / 3
                assert (growth[both] <= node.degree[both] + 0.2).all()


def test_units_that_are_not_reached_stay_bounded() -> None:
    lower, upper = torch.zeros(1, 3).double(), torch.ones(1, 3).double()
    upper[0, 2] = math.inf
    weight = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, -2.0]]).double()
    node = read(lambda x: F.linear(x, weight), lower, upper)
    assert node.bounded.tolist() == [[True, False]]
    assert node.upper.tolist()[0] == pytest.approx([1.0, 0.0], abs=1e-12)
    assert node.degree.tolist() == [[0.0, 1.0]]


def test_multi_head_attention_stays_between_its_values() -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=True)

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x):
            mask = nn.Transformer.generate_square_subsequent_mask(4)
            first, weights = self.layer(x, x, x)
            second, _ = self.layer(x, x, x, attn_mask=mask, need_weights=False)
            return first + second, weights

    cert = certify_model(Attend().eval(), (4, 6), (-2.0, 2.0), Effort(16, 8, 20, descent=0))
    assert cert.bounded
    assert cert.bound.lower.shape == (4 * 6 + 4 * 4,)
    assert (cert.bound.upper[24:] <= 1.0 + 1e-9).all()


REFUSED = {
    "an unknown function": (lambda x: torch.fft.fft(x), "fft_fft has no rule"),
    "a decision": (lambda x: x if x.sum() > 0 else -x, "a decision of Python by a value"),
    "division by what may be 0": (lambda x: 1.0 / x, "a division by a value that may be 0"),
    "logarithm of what may be negative": (lambda x: x.log(), "log of a value that may be"),
    "assignment": (lambda x: x.__setitem__(0, 1.0), "__setitem__ has no rule"),
    "in-place function of a view": (lambda x: x[:, 0].relu_(), "an in-place function of a view"),
    "max with indices": (lambda x: x.max(-1).values, "amax and amin"),
    "random numbers": (lambda x: x + torch.randn(3), "random numbers in forward"),
    "batch statistics": (
        lambda x: F.batch_norm(x, None, None, training=True), "statistics of the batch",
    ),
    "an index that depends on the input": (
        lambda x: x.gather(1, x), "depends on the input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_by_name(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(ff.errors.UnsupportedOperation, match=message) as caught:
        certify_model(nn.Sequential(Apply(function)), (3,))
    assert "never a guess" in str(caught.value)


def test_an_lstm_is_refused_by_name() -> None:
    with pytest.raises(ff.errors.UnsupportedOperation, match=r"LSTM.*lstm has no rule"):
        certify_model(nn.LSTM(3, 4, batch_first=True).eval(), (5, 3))


def test_training_mode_is_refused_with_the_reason() -> None:
    for layer in (nn.Dropout(0.5), nn.BatchNorm1d(8), nn.RReLU()):
        model = nn.Sequential(nn.Linear(3, 8), layer, nn.Linear(8, 1)).train()
        with pytest.raises(ff.errors.UnsupportedOperation, match=r"In module '1'.*eval\(\)"):
            certify_model(model)


def test_every_activation_of_torch_has_a_rule() -> None:
    needs = {"Threshold": (0.1, 1.0), "Softmax": (-1,), "Softmin": (-1,), "LogSoftmax": (-1,)}
    apart = {"MultiheadAttention", "Softmax2d"}  # tested elsewhere, other shapes
    for name in nn.modules.activation.__all__:
        if name in apart:
            continue
        layer = getattr(nn, name)(*needs.get(name, ()))
        model = nn.Sequential(nn.Linear(3, 4), layer).eval()
        certify_model(model, domain=(-1.0, 1.0), effort=Effort(4, 2, 2, descent=0))
    certify_model(nn.Softmax2d(), (3, 2, 2), (-1.0, 1.0), Effort(4, 2, 2, descent=0))


def test_names_of_rules_are_listed() -> None:
    assert {"linear", "conv2d", "layer_norm", "softmax", "embedding"} <= set(RULES.names())
    assert "local_response_norm" in RULES.refused()
