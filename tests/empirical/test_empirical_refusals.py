"""What has no kernel, or cannot be understood, is refused in one sentence."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from zoo import Function, make, mlp, x

import farfield as ff
from farfield.empirical.outputs import mode_of
from farfield.errors import RangeError, SettingsError, UnsupportedOperation


def net() -> nn.Module:
    return mlp()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.1)), "drops units at random"),
        (lambda: nn.TransformerEncoderLayer(8, 2), "drops units at random"),
        (lambda: nn.LSTM(3, 4, 2, dropout=0.2), "drops units at random"),
        (lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), "ties the inputs of a batch"),
        (lambda: nn.BatchNorm1d(2, track_running_stats=False).eval(), "no running statistics"),
        (lambda: nn.Embedding(3, 2, max_norm=1.0), "changes its weights"),
        (lambda: nn.Embedding(3, 2, scale_grad_by_freq=True), "depends on the others"),
        (lambda: nn.LazyLinear(2), "has no shape yet"),
        (lambda: nn.Linear(3, 2, dtype=torch.complex64), "is complex"),
        (lambda: nn.Linear(3, 2).half(), "model.float"),
        (lambda: nn.Linear(3, 2).bfloat16(), "model.float"),
        (lambda: nn.Linear(3, 2).requires_grad_(False), "No parameter is left to count"),
        (nn.ReLU, "No parameter is left to count"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_models(model, message) -> None:
    with pytest.raises(SettingsError, match=message):
        ff.empirical_ntk(model())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": "trace"}, "outputs is 'trace'; choose"),
        ({"outputs": []}, "choose 'mean'"),
        ({"by": "layer"}, "by is 'layer'"),
        ({"memory": "lots"}, "give a size"),
        ({"memory": "1kB"}, "at least 1MB"),
        ({"parameters": "head"}, "no such parameter or module"),
        ({"parameters": lambda name, p: False}, "leaves over"),
        ({"weight_var": 2.0}, "only with parameterization='ntk'"),
        ({"parameterization": "ntk"}, "is not known. Draw the model"),
        ({"parameterization": "ntk", "weight_var": -1.0, "bias_var": 0.0}, "weight_var is -1"),
        ({"parameterization": "ntk", "weight_var": {"7": 1.0}, "bias_var": 0.0}, "names '7'"),
    ],
)
def test_arguments(arguments, message) -> None:
    with pytest.raises(SettingsError, match=message):
        ff.empirical_ntk(net(), **arguments)


def test_parametrisation_without_a_type_checker() -> None:
    from farfield.empirical.weights import kernel_weights

    with pytest.raises(SettingsError, match="choose 'standard' or 'ntk'"):
        kernel_weights(net(), "mup", None, None)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.full((2, 3), torch.nan), "6 of the 6 numbers"),
        (torch.tensor([[1.0, 2.0, torch.inf]]), "1 of the 3 numbers"),
        (torch.zeros(2, 3, dtype=torch.complex64), "is complex"),
        (torch.tensor(1.0), "must begin with the same number"),
        ((torch.zeros(2, 3), torch.zeros(3, 3)), "must begin with the same number"),
        (torch.zeros(0, 3), "There are no inputs"),
        (DataLoader(TensorDataset(torch.zeros(4, 3)), shuffle=True), "RandomSampler"),
    ],
)
def test_inputs(inputs, message) -> None:
    with pytest.raises(SettingsError, match=message):
        ff.empirical_ntk(net())(inputs)


def test_inputs_that_are_no_tensors() -> None:
    from farfield.empirical.inputs import check_inputs
    from farfield.empirical.streams import stream

    for wrong in ([[1.0, 2.0]], "abc", [], 3):
        with pytest.raises(SettingsError, match="give a tensor"):
            check_inputs(wrong)
    loader = DataLoader([object(), object()], collate_fn=lambda batch: batch[0])
    with pytest.raises(SettingsError, match="from_batch"):
        list(stream(loader, None, torch.device("cpu")).blocks(1))


def test_outputs() -> None:
    cases = {
        "first dimension must be the batch": lambda m, h: m.net(h).sum(),
        "needs real tensors": lambda m, h: (m.net(h), "text"),
        "is of type torch.int64": lambda m, h: m.net(h).argmax(1),
        "returns no output": lambda m, h: (),
    }
    for message, function in cases.items():
        with pytest.raises(UnsupportedOperation, match=message):
            ff.empirical_ntk(Function(function, net=net()))(x(3))
    several = Function(lambda m, h: {"a": m.net(h), "b": m.net(h)}, net=net())
    with pytest.raises(SettingsError, match="no output 'c'; those it has are 'a', 'b'"):
        ff.empirical_ntk(several, output="c")(x(3))
    with pytest.raises(SettingsError, match="outputs names 4, but the model has 4 outputs"):
        ff.empirical_ntk(net(), outputs=4)(x(3))


def test_an_output_of_several() -> None:
    model, inputs = make("several outputs")
    by_name = [ff.empirical_ntk(model, output=name)(inputs) for name in ("value", "policy")]
    mean = ff.empirical_ntk(model)(inputs)
    torch.testing.assert_close(mean, (by_name[0] + 2 * by_name[1]) / 3, rtol=1e-12, atol=1e-12)


def test_random_numbers_in_forward() -> None:
    noisy = Function(lambda m, h: m.net(h) + torch.randn(2, 4)[0], net=net())
    with pytest.raises(UnsupportedOperation, match="draws random numbers"):
        ff.empirical_ntk(noisy)(x(3))


def test_nothing_depends_on_the_parameters() -> None:
    with pytest.raises(SettingsError, match="influences the outputs"):
        ff.empirical_ntk(Function(lambda m, h: h * 2, net=net()))(x(3))
    with pytest.raises(SettingsError, match="influences the outputs"):
        ff.empirical_ntk(Function(lambda m, h: m.net(h).detach(), net=net()))(x(3))


def test_kernels_beyond_the_range() -> None:
    for scale in (1e25, 3e38):
        with pytest.raises(RangeError, match=r"model\.double"):
            ff.empirical_ntk(net())(scale * torch.ones(2, 3))
        for outputs in ("mean", "full", "diagonal"):
            with pytest.raises(RangeError, match=r"model\.double"):
                ff.empirical_ntk(net(), outputs).diagonal(scale * torch.ones(2, 3))


@pytest.mark.parametrize(
    "out", [torch.zeros(5, 4), torch.zeros(5, 5), torch.zeros(5, 5).double().numpy()[:3]]
)
def test_places_to_write_that_do_not_fit(out) -> None:
    model, inputs = make("mlp")
    with pytest.raises(SettingsError, match="it must have"):
        ff.empirical_ntk(model)(inputs, out=out)


def test_models_that_change_after_their_kernel_was_made() -> None:
    model, inputs = make("batch norm")
    kernel, op = ff.empirical_ntk(model), ff.ntk_operator(model, inputs)
    kernel(inputs)
    model.train()
    for call in (lambda: kernel(inputs), lambda: kernel.explain(inputs), lambda: op.trace(2)):
        with pytest.raises(SettingsError, match="ties the inputs"):
            call()
    model.eval()
    kernel(inputs)
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())
    with pytest.raises(SettingsError, match=r"'0\.weight' is not the one"):
        kernel(inputs)


def test_weights_that_change_count_as_they_are() -> None:
    model, inputs = make("vision transformer")
    kernel = ff.empirical_ntk(model)
    before = kernel(inputs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1
    after = kernel(inputs)
    assert not torch.allclose(after, before)
    assert torch.equal(after, ff.empirical_ntk(model)(inputs))


def test_what_stands_for_outputs_or_parameters() -> None:
    expected = mode_of([0, 1])
    for outputs in (range(2), (0, 1), {0, 1}):
        assert mode_of(outputs) == expected
    for wrong in (True, [True]):
        with pytest.raises(SettingsError, match="choose 'mean'"):
            mode_of(wrong)


def test_outputs_of_half_precision() -> None:
    rounding = Function(lambda m, h: m.net(h).bfloat16(), net=net())
    with pytest.raises(UnsupportedOperation, match=r"is torch\.bfloat16, too coarse"):
        ff.empirical_ntk(rounding)(x(3))


def test_more_inputs_than_forward_takes() -> None:
    loader = DataLoader(TensorDataset(x(3), torch.arange(5)), batch_size=2)
    with pytest.raises(SettingsError, match="from_batch=") as caught:
        ff.empirical_ntk(net())(loader)
    assert "(2 in a row)" in str(caught.value)
    with pytest.raises(SettingsError, match=r"tensors given \('ids'\)"):
        ff.empirical_ntk(net())({"ids": x(3)})
    wrong = Function(lambda m, h: m.net(h) + "text", net=net())
    with pytest.raises(TypeError, match="unsupported operand"):
        ff.empirical_ntk(wrong)(x(3))
