"""Products with the kernel, its eigenpairs, and estimates of its trace and diagonal."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator, cg
from zoo import Function, N, make, x

import farfield as ff
from farfield.empirical import operator as operator_module
from farfield.errors import RangeError, SettingsError, UnsupportedOperation

# Some operations compute their second derivatives less exactly than their first.
TOLERANCE = 1e-11


def matrix_of(model, inputs) -> torch.Tensor:
    full = ff.empirical_ntk(model, outputs="full")(inputs)
    return full.reshape(full.shape[0] * full.shape[1], -1)


NAMES = ["mlp", "cnn", "u-net", "transformer encoder", "tied decoder", "lstm", "weight norm",
         "orthogonal weight", "bilinear", "operation of one's own", "keyword inputs", "prelu",
         "shared batch norm", "mixture of experts", "several outputs"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_products(name) -> None:
    model, inputs = make(name)
    matrix = matrix_of(model, inputs)
    vector = torch.randn(len(matrix), dtype=torch.float64)
    found = ff.ntk_operator(model, inputs) @ vector
    assert (found - matrix @ vector).norm() <= TOLERANCE * (matrix @ vector).norm()


def test_as_scipy_knows_it(monkeypatch) -> None:
    model, inputs = make("cnn")
    matrix = matrix_of(model, inputs)
    monkeypatch.setattr(operator_module, "block_side", lambda *_: 2)
    op = ff.ntk_operator(model, inputs)
    assert op.shape == tuple(matrix.shape)
    assert aslinearoperator(op) is op
    columns = torch.randn(len(matrix), 3, dtype=torch.float64)
    torch.testing.assert_close(op @ columns, matrix @ columns, rtol=1e-11, atol=1e-11)
    arrays = torch.from_numpy(op @ columns.numpy())
    torch.testing.assert_close(arrays, matrix @ columns, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(torch.from_numpy(op.T @ columns.numpy()), arrays)
    y = columns[:, 0].numpy()
    solved, info = cg(aslinearoperator(op) + 0.1 * aslinearoperator(torch.eye(len(y)).numpy()), y)
    assert info == 0
    residual = matrix.numpy() @ solved + 0.1 * solved - y
    assert abs(residual).max() < 1e-3
    with pytest.raises(SettingsError, match="cannot be multiplied"):
        op @ torch.ones(len(y) + 1)


@pytest.mark.parametrize("name", ["mlp", "mlp on positions"])
def test_eigenpairs(name) -> None:
    model, inputs = make(name)  # 20 outputs: as a matrix; 80: by Lanczos
    matrix = matrix_of(model, inputs)
    op = ff.ntk_operator(model, inputs)
    values, vectors = op.eigenpairs(4)
    expected = torch.linalg.eigvalsh(matrix).flip(0)[:4]
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(matrix @ vectors, vectors * values, rtol=1e-6, atol=1e-6)
    with pytest.raises(SettingsError, match="eigenvalues: ask for"):
        op.eigenpairs(len(matrix) + 1)


def test_estimates_are_right_within_their_errors() -> None:
    model, inputs = make("mlp")
    matrix = matrix_of(model, inputs)
    op = ff.ntk_operator(model, inputs)
    generator = torch.Generator().manual_seed(torch.initial_seed())
    trace, diagonal = op.trace(200, generator), op.diagonal(200, generator)
    # Six standard errors: a fair estimate is beyond them once in 10^8 or so.
    assert abs(trace.value - matrix.trace()) < 6 * trace.error
    assert ((diagonal.value - matrix.diagonal()).abs() < 6 * diagonal.error + 1e-9).all()
    spread = (2 * (matrix.square().sum() - matrix.diagonal().square().sum()) / 200) ** 0.5
    assert 0.5 * spread < trace.error < 2 * spread
    with pytest.raises(SettingsError, match="at least 2"):
        op.trace(1)


def test_errors_of_estimates_are_calibrated(monkeypatch) -> None:
    model, inputs = make("mlp")
    matrix = matrix_of(model, inputs)
    op = ff.ntk_operator(model, inputs)
    # The estimators alone; that products are right is tested above.
    monkeypatch.setattr(op, "_product", lambda vector: matrix @ vector)
    generator = torch.Generator().manual_seed(torch.initial_seed())
    scores = []
    for _ in range(200):
        trace, diagonal = op.trace(32, generator), op.diagonal(32, generator)
        known = diagonal.error > 1e-9 * matrix.diagonal()  # a row of zeros has no error
        entries = (diagonal.value - matrix.diagonal())[known] / diagonal.error[known]
        scores.append(
            [(trace.value - matrix.trace()) / trace.error, entries.square().mean().sqrt()]
        )
    size = torch.tensor(scores).square().mean(0)
    # The mean of 200 squares of Student's t with 31 degrees of freedom: 1.07 +- 0.11; skewed sums
    # add some. An error of the wrong number of vectors would give 31 or 1 / 31.
    assert (size > 0.5).all()
    assert (size < 2.0).all()


def test_eigenvectors_of_a_transformer() -> None:
    model, _ = make("tied decoder")
    inputs = torch.randint(7, (9, 4))
    matrix = matrix_of(model, inputs)
    assert len(matrix) > operator_module._DENSE
    values, vectors = ff.ntk_operator(model, inputs).eigenpairs(5)
    expected, columns = (part.flip(-1) for part in torch.linalg.eigh(matrix))
    torch.testing.assert_close(values, expected[:5], rtol=1e-9, atol=1e-9)
    # The spaces agree as far as the next eigenvalue can be told from these.
    outside = 5.0 - (vectors.T @ columns[:, :5]).square().sum().item()
    gap = ((expected[4] - expected[5]) / expected[0]).item()
    assert outside < 1e-6 or gap < 1e-6


def test_operations_without_second_derivatives() -> None:
    model, inputs = make("embedding bag")
    op = ff.ntk_operator(model, inputs)
    with pytest.raises(UnsupportedOperation, match="neither forward-mode nor second"):
        op @ torch.ones(op.shape[0], dtype=torch.float64)


def test_nothing_changes_and_bad_models_are_refused() -> None:
    model, inputs = make("spectral norm")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ff.ntk_operator(model, inputs) @ torch.ones(2 * N, dtype=torch.float64)
    assert all(torch.equal(before[n], tensor) for n, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(SettingsError, match="drops units"):
        ff.ntk_operator(torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Dropout()), x(3))
    with pytest.raises(SettingsError, match="no inputs"):
        ff.ntk_operator(model, inputs[:0])


def test_complex_vectors_and_kernels_that_vanish() -> None:
    op = ff.ntk_operator(*make("mlp"))
    for vector in (torch.ones(20, dtype=torch.complex128), 1j * np.ones(20)):
        with pytest.raises(SettingsError, match="The vector is complex"):
            op @ vector
    assert (op @ torch.zeros(20, 0, dtype=torch.float64)).shape == (20, 0)
    nothing = Function(lambda m, h: 0 * m.net(h), net=torch.nn.Linear(3, 8))
    with pytest.raises(RangeError, match="The kernel is zero"):
        ff.ntk_operator(nothing, x(3)).eigenpairs(2)
