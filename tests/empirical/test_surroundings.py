"""Models as they are met in programs: wrapped, compiled, scripted, hooked, under autocast."""

import copy

import pytest
import torch
from torch import nn
from zoo import make, mlp, x

import farfield as ff
from farfield.errors import RangeError, SettingsError

DOUBLE = {"rtol": 1e-12, "atol": 1e-12}


def test_autocast_does_not_round() -> None:
    model, inputs = make("cnn", torch.float32)
    kernel = ff.empirical_ntk(model, outputs="full")
    vector = torch.randn(15)
    expected, diagonal = kernel(inputs), kernel.diagonal(inputs)
    product = ff.ntk_operator(model, inputs) @ vector
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(kernel(inputs), expected)
        assert torch.equal(kernel.diagonal(inputs), diagonal)
        assert torch.equal(ff.ntk_operator(model, inputs) @ vector, product)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_and_traced() -> None:
    model, inputs = make("mlp")
    expected = ff.empirical_ntk(model)(inputs)
    for scripted in (torch.jit.script(model), torch.jit.trace(model, inputs)):
        torch.testing.assert_close(ff.empirical_ntk(scripted)(inputs), expected, **DOUBLE)
        with pytest.raises(SettingsError, match="scripted or traced"):
            ff.linearize(scripted)


def test_compiled_models_run_as_they_were_written() -> None:
    def broken(graph: object, inputs: object) -> object:
        raise AssertionError("nothing must be compiled")

    model, inputs = make("mlp")
    expected = ff.empirical_ntk(model, outputs="full")(inputs)
    compiled = torch.compile(model, backend=broken)
    inner = nn.Sequential(torch.compile(copy.deepcopy(model), backend=broken))
    for wrapped in (compiled, inner):
        found = ff.empirical_ntk(wrapped, outputs="full")(inputs)
        torch.testing.assert_close(found, expected, **DOUBLE)
        ones = torch.ones(20, dtype=torch.float64)
        product = ff.ntk_operator(wrapped, inputs) @ ones
        torch.testing.assert_close(product, expected.reshape(20, 20) @ ones, **DOUBLE)
        torch.testing.assert_close(ff.linearize(wrapped)(inputs), model(inputs), **DOUBLE)


def test_data_parallel_and_forward_hooks() -> None:
    model, inputs = make("mlp")
    expected = ff.empirical_ntk(model)(inputs)
    wrapped = nn.DataParallel(model)
    torch.testing.assert_close(ff.empirical_ntk(wrapped)(inputs), expected, **DOUBLE)
    handle = model.register_forward_hook(lambda module, given, outputs: 2 * outputs)
    torch.testing.assert_close(ff.empirical_ntk(model)(inputs), 4 * expected, **DOUBLE)
    handle.remove()
    assert torch.equal(ff.empirical_ntk(model)(inputs), expected)


def meta() -> nn.Module:
    with torch.device("meta"):
        return mlp()


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return mlp()


def hooked(register: object) -> nn.Module:
    model = mlp()
    register(model[0])
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (meta, "on the meta device"),
        (made_in_inference_mode, "made in inference mode"),
        (lambda: hooked(lambda m: m.register_full_backward_hook(print)), "'0' .* backward hook"),
        (lambda: hooked(lambda m: m.register_full_backward_pre_hook(print)), "backward hook"),
        (lambda: hooked(lambda m: m.weight.register_hook(print)), r"'0\.weight' has a hook"),
    ],
)
def test_models_without_gradients_of_their_own(model, message) -> None:
    for make_it in (ff.empirical_ntk, ff.linearize, lambda m: ff.ntk_operator(m, x(3)),
                    lambda m: ff.NTKMonitor(m, x(3))):  # fmt: skip
        with pytest.raises(SettingsError, match=message):
            make_it(model())


def test_copies_of_models_made_in_inference_mode() -> None:
    assert ff.empirical_ntk(copy.deepcopy(made_in_inference_mode()))(x(3)).shape == (5, 5)


def test_what_is_no_module() -> None:
    from farfield.empirical.forward import check_model

    with pytest.raises(SettingsError, match="it must be a torch"):
        check_model(torch.relu)


def test_inputs_of_another_dtype() -> None:
    for inputs in (x(3).double(), torch.ones(5, 3, dtype=torch.long)):
        with pytest.raises(SettingsError, match=f"The inputs are {inputs.dtype} and the param"):
            ff.empirical_ntk(mlp())(inputs)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ff.empirical_ntk(mlp())(x(2))
    with pytest.raises(SettingsError, match="on the meta device"):
        ff.empirical_ntk(mlp())(x(3).to("meta"))


def test_products_that_are_not_finite() -> None:
    with pytest.raises(RangeError, match=r"model\.double"):
        ff.ntk_operator(mlp(), 1e30 * x(3)) @ torch.ones(20)
    op = ff.ntk_operator(mlp(), x(3))
    for vector in (torch.full((20,), torch.nan), torch.full((20,), 1e200, dtype=torch.float64)):
        with pytest.raises(SettingsError, match="must be finite"):
            op @ vector
