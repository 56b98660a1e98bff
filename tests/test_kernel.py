"""Kernel: tiles, symmetry, diagonal, places to write."""

import numpy as np
import pytest
import torch

from farfield import kernel as kernel_module
from farfield.errors import SettingsError
from farfield.kernel import Kernel, tile_side


@pytest.fixture
def calls() -> list[tuple[int, int]]:
    return []


@pytest.fixture
def cubic(calls: list[tuple[int, int]]) -> Kernel:
    def block(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        calls.append((len(a), len(b)))
        return (a.flatten(1) @ b.flatten(1).T + 1) ** 3

    return Kernel(block, lambda a: (a.flatten(1).square().sum(1) + 1) ** 3)


def direct(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (torch.einsum("id,jd->ij", a.flatten(1), b.flatten(1)) + 1) ** 3


@pytest.mark.parametrize("n1", [0, 1, 7, 20])
@pytest.mark.parametrize("n2", [0, 5, 16])
@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_any_sizes_in_small_tiles(cubic, calls, monkeypatch, n1, n2, shape) -> None:
    monkeypatch.setattr(kernel_module, "_LONGEST_SIDE", 6)
    x1, x2 = torch.randn(n1, *shape), torch.randn(n2, *shape)
    torch.testing.assert_close(cubic(x1, x2), direct(x1, x2))
    assert all(max(call) <= 6 for call in calls)


def test_one_batch_is_exactly_symmetric_and_has_the_exact_diagonal(cubic, calls, monkeypatch):
    monkeypatch.setattr(kernel_module, "_LONGEST_SIDE", 8)
    x = torch.randn(30, 3)
    matrix = cubic(x)
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix.diagonal(), cubic.diagonal(x))
    torch.testing.assert_close(matrix, direct(x, x))
    assert len(calls) == 4 * 5 // 2  # half of the 16 tiles, and the diagonal ones


def test_the_tile_follows_the_budget() -> None:
    assert tile_side(8, 24 * 8 * 100**2) == 100
    assert tile_side(8, 1) == 1
    assert tile_side(4, 2**40) == kernel_module._LONGEST_SIDE


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_inputs_that_are_not_finite(cubic, bad) -> None:
    x = torch.randn(5, 3)
    x[2, 1] = bad
    for call in (lambda: cubic(x), lambda: cubic(x[:2], x), lambda: cubic.diagonal(x)):
        with pytest.raises(SettingsError, match="1 of the 15 numbers"):
            call()
    whole = torch.ones(2, 3, dtype=torch.int64)
    with pytest.raises(SettingsError, match=r"floating-point.*int64"):
        kernel_module.evaluate(cubic._prepare, whole, None, [None])


def test_writes_into_a_tensor_and_a_memory_map(cubic, tmp_path) -> None:
    x1, x2 = torch.randn(5, 3), torch.randn(4, 3)
    out = torch.empty(5, 4)
    assert cubic(x1, x2, out=out) is out
    torch.testing.assert_close(out, direct(x1, x2))
    mapped = np.memmap(tmp_path / "k", dtype=np.float32, mode="w+", shape=(5, 4))
    assert isinstance(cubic(x1, x2, out=mapped), torch.Tensor)
    np.testing.assert_array_equal(mapped, out.numpy())


def test_refuses_what_does_not_fit(cubic) -> None:
    x = torch.randn(5, 3)
    with pytest.raises(SettingsError, match="out has shape"):
        cubic(x, out=torch.empty(5, 4))
    nothing = lambda *batches: None  # noqa: E731
    with pytest.raises(SettingsError, match="equal features"):
        kernel_module.evaluate(nothing, x, torch.randn(5, 2), [None])
    with pytest.raises(SettingsError, match="dtype"):
        cubic(x, torch.randn(5, 3, dtype=torch.float64))


READ_ONLY = np.zeros((5, 5), dtype=np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ([1.0], "of type list; it must be a tensor or a NumPy array"),
        (1.0, "of type float; it must"),
        (torch.empty(5, 5, device="meta"), "out is on meta and the inputs are on cpu"),
        (torch.empty(5, 5, requires_grad=True), "out requires gradients.*detach"),
        (torch.empty(5, 1).expand(5, 5), "out is expanded"),
        (READ_ONLY, "read-only array.*r\\+"),
        (np.empty((5, 5), dtype=object), "PyTorch cannot write to"),
        (np.empty((5, 5), dtype=np.float32)[::-1], "PyTorch cannot write to.*strid"),
    ],
)
def test_refuses_places_that_cannot_be_written(cubic, out, message) -> None:
    with pytest.raises(SettingsError, match=message):
        cubic(torch.randn(5, 3), out=out)


def test_refuses_to_overwrite_its_inputs(cubic) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.randn(5, 5, dtype=dtype)
        before = x.clone()
        for batches in ((x,), (x.clone(), x)):
            with pytest.raises(SettingsError, match="out shares memory with the inputs"):
                cubic(*batches, out=x)
        assert torch.equal(x, before)


def test_gradients_flow_through_the_tiles(cubic, monkeypatch) -> None:
    monkeypatch.setattr(kernel_module, "_LONGEST_SIDE", 2)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((cubic(x) * weight).sum(), x)
    (expected,) = torch.autograd.grad((direct(x, x) * weight).sum(), x)
    torch.testing.assert_close(gradient, expected)
