"""One question to models and fitted predictors, and one form of answer."""

import pytest
import torch
from cases import batch, limit
from torch import nn

import farfield as ff
from farfield.errors import SettingsError
from farfield.growth import Bound, Certificate, Effort, Found, Growth, certify_model
from farfield.regression import FitCertificate, certify_fit

QUICK = Effort(rays=8, starts=4, steps=5, descent=0)


def things(norm: str | None) -> tuple[nn.Module, ff.regression.KernelFit]:
    torch.manual_seed(0)
    kernel = limit(norm=norm).ntk
    return ff.mlp(2, [8], 1, norm=norm).eval(), ff.KernelRegression(kernel).fit(
        batch(5), batch(5, 2, seed=1)
    )


@pytest.mark.parametrize("norm", ["layer", None])
def test_both_certificates_answer_in_the_same_words(norm) -> None:
    model, fit = things(norm)
    for cert, outputs in ((ff.certify(model, effort=QUICK), 1), (ff.certify(fit), 2)):
        assert cert.bounded is (norm is not None)
        for part, kind in ((cert.bound, Bound), (cert.growth, Growth), (cert.worst_found, Found)):
            assert isinstance(part, kind)
        assert cert.bound.lower.shape == cert.bound.upper.shape == (outputs,)
        assert cert.worst_found.input.shape == cert.domain.shape == (2,)
        assert str(cert.domain) == "every input of R^2"
        first, reason, *rest = str(cert).splitlines()
        assert reason == cert.reason
        if norm:
            assert first == "Bounded, for every input of R^2."
            assert f"larger than {cert.bound.largest:.6g} in absolute value" in rest[0]
            assert cert.ratio >= 1.0
        else:
            assert first == "Grows, degree 1, for every input of R^2."
            assert cert.growth.found.degree == pytest.approx(1.0, abs=1e-6)
            assert "on the steepest ray output" in rest[-1]


def test_each_thing_goes_where_it_belongs() -> None:
    model, fit = things("layer")
    through, direct = ff.certify(model, (2,), (-1.0, 1.0), QUICK), certify_model
    expected = direct(model, (2,), (-1.0, 1.0), QUICK)
    assert torch.equal(through.bound.upper, expected.bound.upper)
    assert through.worst_found.evaluations == expected.worst_found.evaluations
    assert not isinstance(through, FitCertificate)
    fitted = ff.certify(fit)
    assert isinstance(fitted, FitCertificate)
    assert isinstance(fitted, Certificate)
    assert torch.equal(fitted.bound.upper, certify_fit(fit).bound.upper)


BAD = {
    "a function": (lambda: ff.certify(torch.sin), "Found builtin_function_or_method; certify"),
    "not fitted": (lambda: ff.certify(ff.KernelRegression(limit().ntk)), "KernelRegression; cert"),
    "a class": (lambda: ff.certify(nn.Linear), "Found type; certify takes a torch.nn.Module or"),
    "options of models": (
        lambda: ff.certify(things("layer")[1], domain=(-1.0, 1.0)), "are for models",
    ),
    "scripted": (
        lambda: ff.certify(torch.jit.trace(nn.Linear(2, 1), torch.ones(1, 2))), "give the module",
    ),
    "no shapes yet": (lambda: ff.certify(nn.LazyLinear(3), (2,)), "parameters without a shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of scripting
def test_anything_else_is_refused_in_one_sentence(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(SettingsError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_torch_compile_made_is_read_as_it_was_written() -> None:
    model, _ = things("layer")
    expected = certify_model(model, effort=QUICK).bound.upper
    assert torch.equal(
        ff.certify(torch.compile(model, backend="eager"), effort=QUICK).bound.upper, expected
    )
