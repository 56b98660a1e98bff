"""Posteriors in files: the same bits again, and a clear word about what is something else."""

import json

import pytest
import torch
from small_networks import make, samples

import farfield as ff
from farfield.errors import DataError, SettingsError

pytest.importorskip("safetensors")


@pytest.mark.parametrize("likelihood", ["regression", "classification"])
@pytest.mark.parametrize("method", ["exact", "nystrom"])
def test_the_same_again(tmp_path, method, likelihood) -> None:
    model, shape = make("cnn")
    x, y = samples(shape, likelihood, n=30)
    new = torch.randn(4, *shape, dtype=torch.float64)
    la = ff.LinearizedLaplace(model, likelihood, 0.3, method=method, inducing=20, features=5)
    la.fit((x, y), validation=(x, y) if method == "nystrom" else None, search=7).tune()
    path = tmp_path / "posterior.safetensors"
    la.save(path)
    again = ff.LinearizedLaplace.load(path, model)
    for ask in (
        lambda one: one.predict_outputs(new)[1],
        lambda one: one.novelty(new),
        lambda one: torch.tensor(one.log_marginal_likelihood()),
    ):
        assert torch.equal(ask(again), ask(la))
    if method == "nystrom":
        assert again.posterior.search == la.posterior.search
        assert again.posterior.seen == la.posterior.seen
    again.tune()
    assert again.prior_precision == pytest.approx(la.prior_precision, rel=1e-3)


class TwoInputs(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * scale


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("method", ["exact", "nystrom"])
def test_several_inputs(tmp_path, method, named) -> None:
    model = TwoInputs().double()
    x, scale = torch.randn(8, 3).double(), torch.rand(8, 1).double()
    inputs = {"scale": scale, "x": x} if named else (x, scale)
    la = ff.LinearizedLaplace(model, "regression", method=method).fit((inputs, torch.randn(8, 2)))
    path = tmp_path / "posterior.safetensors"
    la.save(path)
    again = ff.LinearizedLaplace.load(path, model)
    assert torch.equal(again.predict(inputs).std, la.predict(inputs).std)
    # One layer: k_ab(x, x') = (x . x' + 1) s s' if a is b.
    own = scale * torch.cat([x, torch.ones(8, 1)], 1)
    wanted = (own @ torch.linalg.inv(own.T @ own + torch.eye(4).double()) * own).sum(1).sqrt()
    torch.testing.assert_close(la.predict(inputs).std, wanted[:, None].expand(8, 2))


def test_files_that_are_something_else(tmp_path) -> None:
    model, shape = make("mlp")
    la = ff.LinearizedLaplace(model, "regression").fit(samples(shape, "regression"))
    path = tmp_path / "posterior.safetensors"
    la.save(path)
    other = make("mlp")[0]
    with pytest.raises(DataError, match="other parameters"):
        ff.LinearizedLaplace.load(path, other)
    with pytest.raises(DataError, match="There is no file"):
        ff.LinearizedLaplace.load(tmp_path / "nothing", model)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be read"):
        ff.LinearizedLaplace.load(path, model)
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(DataError, match="no posterior"):
        ff.LinearizedLaplace.load(path, model)
    with torch.no_grad():
        model[0].weight += 1.0
    for use in (lambda: la.save(path), lambda: la.predict(torch.ones(1, 2).double())):
        with pytest.raises(SettingsError, match="have changed"):
            use()


@pytest.mark.parametrize("method", ["exact", "nystrom"])
def test_files_that_lack_something(tmp_path, method) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    model, shape = make("mlp")
    la = ff.LinearizedLaplace(model, "regression", method=method, inducing=5, features=2)
    path = tmp_path / "posterior.safetensors"
    la.fit(samples(shape, "regression")).save(path)
    with safe_open(path, "pt") as opened:
        ((name, text),) = opened.metadata().items()
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - no mapping
    header = json.loads(text)
    for key in header:
        left = {other: header[other] for other in header if other != key}
        save_file(tensors, path, {name: json.dumps(left)})
        with pytest.raises(DataError, match=f"lacks '{key}'"):
            ff.LinearizedLaplace.load(path, model)
    for key in tensors:
        left = {other: tensors[other] for other in tensors if other != key}
        save_file(left, path, {name: text})
        with pytest.raises(DataError, match="not complete"):
            ff.LinearizedLaplace.load(path, model)
    for wrong, message in (
        ("{", "no JSON"),
        ("[1]", "not complete"),
        ('{"format": 7}', "format 7"),
    ):
        save_file(tensors, path, {name: wrong})
        with pytest.raises(DataError, match=message):
            ff.LinearizedLaplace.load(path, model)
