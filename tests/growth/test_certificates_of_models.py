"""What the certificate is about, what it refuses, and that it leaves the model alone."""

import copy
import math

import pytest
import torch
from torch import nn

import farfield as ff
from farfield.growth import Effort, certify_model

QUICK = Effort(rays=8, starts=4, steps=5, cells=200, descent=0)


def model(features: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(features, 8), nn.LayerNorm(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2)
    ).eval()


def test_certify_is_public() -> None:
    cert = ff.certify(model(), effort=QUICK)
    assert isinstance(cert, ff.growth.Certificate)
    assert cert.bounded


def test_reading_leaves_the_model_alone() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).eval()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    certify_model(network, effort=QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network[0].weight.dtype == torch.float32
    assert not network._forward_hooks


def test_the_same_twice() -> None:
    first, second = (certify_model(model(), effort=QUICK) for _ in range(2))
    assert torch.equal(first.bound.upper, second.bound.upper)
    assert torch.equal(first.worst_found.input, second.worst_found.input)


def test_the_worst_input_gives_the_worst_value() -> None:
    network = model().double()
    found = certify_model(network, effort=QUICK).worst_found
    value = network(found.input[None])[0, found.output].abs()
    assert value.item() == pytest.approx(found.value, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "shape"),
    [
        (nn.Linear(5, 3), (5,)), (nn.LayerNorm([2, 3]), (2, 3)), (nn.RMSNorm(4), (4,)),
        (nn.BatchNorm1d(6), (6,)),
    ],
)  # fmt: skip
def test_the_first_layer_tells_the_shape(first: nn.Module, shape: tuple[int, ...]) -> None:
    cert = certify_model(nn.Sequential(nn.Dropout(), first).eval(), effort=QUICK)
    assert cert.domain.shape == shape


def test_domains() -> None:
    network = model()
    everything = certify_model(network, effort=QUICK)
    box = certify_model(network, domain=(-0.1, torch.full((3,), 0.1)), effort=QUICK)
    some = certify_model(network, domain={0: (-0.1, 0.1), 2: (0.0, math.inf)}, effort=QUICK)
    assert box.bound.largest < everything.bound.largest
    assert box.domain.is_box
    assert (box.domain.lower == -0.1).all()  # to the last digit of float64
    assert str(everything.domain) == "every input of R^3"
    assert str(box.domain) == "every input of a box of 3 numbers"
    assert str(some.domain) == "every input of 3 numbers, 2 of them within limits"
    assert some.worst_found.input[2] >= 0.0
    assert some.worst_found.input[0].abs() <= 0.1


def test_growth_within_a_domain() -> None:
    """A unit that only grows where the domain has a wall."""
    network = nn.Sequential(nn.Linear(2, 1), nn.ReLU())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, -2.0]]))
    walled = certify_model(network, domain={0: (-math.inf, 3.0), 1: (0.0, math.inf)}, effort=QUICK)
    assert walled.bounded
    open_side = certify_model(network, domain={0: (-math.inf, 3.0)}, effort=QUICK)
    assert open_side.bounded is False
    assert open_side.growth.found.ray.tolist() == pytest.approx([0.0, -1.0], abs=1e-6)


def test_several_outputs() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 2)

        def forward(self, x):
            h = torch.tanh(self.body(x))
            return {"one": self.one(h), "two": self.two(h), "none": None}

    cert = certify_model(Heads(), effort=QUICK)
    assert cert.bounded
    assert cert.bound.upper.shape == (3,)


def test_tokens() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 1))
    cert = certify_model(network, (2,), effort=QUICK)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    values = network(pairs)
    assert cert.worst_found.value == pytest.approx(values.abs().max().item(), rel=1e-5)
    assert (cert.bound.upper >= values.max()).all()
    assert str(cert.domain) == "every input of 2 of 5 tokens"


BAD = {
    "unknown shape": (lambda: certify_model(nn.Conv2d(1, 1, 3)), "a Conv2d at the start"),
    "no parameters": (lambda: certify_model(nn.ReLU()), "no layer with parameters"),
    "wrong shape": (lambda: certify_model(model(), (4,)), "takes 3 features; what reaches it"),
    "wrong dimensions": (lambda: certify_model(nn.Conv2d(1, 1, 3), (5,)), "channels first"),
    "impossible shape": (
        lambda: certify_model(nn.Sequential(nn.Conv1d(1, 1, 9)), (1, 4)), "does not run on",
    ),
    "zero size": (lambda: certify_model(model(), (0,)), "at least 1"),
    "empty box": (lambda: certify_model(model(), domain=(1.0, -1.0)), "The domain is empty"),
    "NaN box": (lambda: certify_model(model(), domain=(math.nan, 1.0)), "The domain is empty"),
    "infinite lower limit": (
        lambda: certify_model(model(), domain=(math.inf, math.inf)), "is infinity",
    ),
    "box of another shape": (
        lambda: certify_model(model(), domain=(torch.zeros(2), torch.ones(2))), "do not fit",
    ),
    "coordinate that is not there": (
        lambda: certify_model(model(), domain={3: (0.0, 1.0)}), "names coordinate 3",
    ),
    "diverged": (lambda: certify_model(_diverged()), "'0.weight' holds values that are NaN"),
    "rows that mix": (lambda: certify_model(Mixes()), "depends on the others in the batch"),
    "batch that is lost": (lambda: certify_model(Loses()), "must stay the first dimension"),
    "constant output": (lambda: certify_model(Constant()), "does not depend on the input"),
    "a layer without room": (
        lambda: ff.stabilize(nn.Sequential(nn.Linear(2, 2))), "at least two torch.nn.Linear",
    ),
    "an unknown place": (lambda: ff.stabilize(model(), "second"), "where is 'second'"),
}  # fmt: skip


def _diverged() -> nn.Module:
    network = model()
    with torch.no_grad():
        network[0].weight[0, 0] = math.nan
    return network


class Mixes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x) - x.mean(0)


class Loses(Mixes):
    def forward(self, x):
        return self.layer(x).reshape(2)


class Constant(Mixes):
    def forward(self, x):
        return self.layer(torch.ones(1, 2, dtype=self.layer.weight.dtype))


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_sentence(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(ff.errors.FarfieldError) as caught:
        call()
    assert message in str(caught.value)
    assert isinstance(caught.value, ff.errors.SettingsError)
    assert "\n" not in str(caught.value)


def test_stabilize_says_that_the_copy_must_be_trained() -> None:
    with pytest.warns(ff.errors.UntrainedWarning, match="train it before"):
        ff.stabilize(model())


@pytest.mark.filterwarnings("ignore::farfield.errors.UntrainedWarning")
def test_stabilize_inserts_norms_and_bounds() -> None:
    plain = ff.mlp(3, [8, 8, 8], 1)
    for where, places in (("first", [1]), ("last", [5]), ("every", [1, 4, 7]), ((0, -1), [1, 6])):
        changed = ff.stabilize(plain, where)
        found = [i for i, m in enumerate(changed) if isinstance(m, nn.LayerNorm)]
        assert found == places
        assert changed.training
        assert certify_model(changed.eval(), effort=QUICK).bounded
    assert not any(isinstance(m, nn.LayerNorm) for m in plain)
    assert plain[0].weight is not ff.stabilize(plain)[0].weight


@pytest.mark.filterwarnings("ignore::farfield.errors.UntrainedWarning")
def test_stabilize_wraps_the_layers_of_other_modules() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8).double(), nn.Linear(8, 1).double()

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    changed = ff.stabilize(Own())
    assert list(changed.state_dict()) == [
        "first.0.weight", "first.0.bias", "first.1.weight", "first.1.bias", "last.weight",
        "last.bias",
    ]  # fmt: skip
    assert changed.first[1].weight.dtype == torch.float64
    cert = certify_model(changed, effort=QUICK)
    assert cert.bounded
    assert "LayerNorm 'first.1' bounds everything after it." in cert.reason
