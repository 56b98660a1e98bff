"""A store is complete or resumable, and is never that of another job."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

import farfield as ff
from farfield.errors import DataError, OutputError, RangeError, SettingsError
from farfield.infinite.kernel import InfiniteWidth
from farfield.scale import StoredKernel, compute, open_kernel

Files = Callable[[StoredKernel], dict[str, bytes]]


@pytest.mark.parametrize("tile", [1, 10, 37, 100])
def test_the_matrix_is_that_of_the_kernel(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path, tile: int
) -> None:
    stored = compute(limit.ntk, x, store=tmp_path / "k", tile=tile)
    expected = limit.ntk(x).numpy()
    values = stored.array[:]
    # Tiles are computed from the same formulas; only the order of sums may differ.
    np.testing.assert_allclose(values, expected, rtol=1e-13)
    assert (values == values.T).all()
    assert stored.complete
    assert stored.symmetric
    vectors = np.random.default_rng(0).standard_normal((37, 2))
    np.testing.assert_allclose(stored.multiply(vectors), expected @ vectors, rtol=1e-11)


def test_two_batches(limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path) -> None:
    other = torch.randn(11, 3, dtype=torch.float64)
    stored = compute(limit.nngp, x, other, tmp_path / "k", tile=8)
    np.testing.assert_allclose(stored.array[:], limit.nngp(x, other).numpy(), rtol=1e-13)
    vectors = np.random.default_rng(0).standard_normal((11, 1))
    np.testing.assert_allclose(
        stored.multiply(vectors), limit.nngp(x, other).numpy() @ vectors, rtol=1e-11, atol=1e-12
    )
    assert not stored.symmetric


def test_vectors_of_another_shape(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path, as_users_run_it: None
) -> None:
    stored = compute(limit.ntk, x, store=tmp_path / "k", tile=20)
    for vectors in (np.ones(37), np.ones((36, 2))):
        with pytest.raises(SettingsError, match=r"it must be \(37, k\)"):
            stored.multiply(vectors)


def test_finite_networks_and_plain_functions(x: torch.Tensor, tmp_path: Path) -> None:
    model = ff.mlp(3, [8], 1).double()
    stored = compute(ff.empirical_ntk(model), x, store=tmp_path / "a", tile=20)
    np.testing.assert_allclose(stored.array[:], ff.empirical_ntk(model)(x).numpy(), rtol=1e-12)
    linear = ff.Kernel(lambda a, b: a @ b.T, lambda a: (a * a).sum(-1))
    stored = compute(linear, x, store=tmp_path / "b", tile=20)
    np.testing.assert_allclose(stored.array[:], (x @ x.T).numpy(), atol=1e-14)


def test_float32_stays_float32(limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path) -> None:
    stored = compute(limit.ntk, x, store=tmp_path / "k", dtype=torch.float32)
    assert stored.array.dtype == np.float32


def test_missing_and_damaged_tiles_are_computed_anew(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path, files: Files
) -> None:
    stored = compute(limit.ntk, x, store=tmp_path / "k", tile=10)
    before = files(stored)
    folder = tmp_path / "k" / "c"
    (folder / "0" / "1").unlink()
    (folder / "2" / "2").write_bytes(b"")
    content = bytearray((folder / "3" / "1").read_bytes())
    content[17] ^= 1
    (folder / "3" / "1").write_bytes(content)
    (folder / "1" / "1.abc.partial").write_bytes(b"left by a kill")
    with pytest.raises(DataError, match="not finished: 15 of 16"):
        open_kernel(tmp_path / "k")
    with pytest.raises(DataError, match="absent or damaged"):
        stored.multiply(np.ones((37, 1)))
    counted: list[tuple[int, int]] = []
    again = compute(
        limit.ntk, x, store=tmp_path / "k", tile=10, progress=lambda *c: counted.append(c)
    )
    assert files(again) == before
    assert counted == [(k, 10) for k in range(11)]
    assert open_kernel(tmp_path / "k").complete


def test_a_kill_while_the_store_is_made(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path, files: Files
) -> None:
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "zarr.0a1b.partial").write_text("{")
    made = compute(limit.ntk, x, store=tmp_path / "k", tile=20)
    assert files(made) == files(compute(limit.ntk, x, store=tmp_path / "other", tile=20))


def test_what_dead_workers_leave_is_removed_at_the_end(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path, files: Files
) -> None:
    def die_while_writing(done: int, total: int) -> None:
        (tmp_path / "k" / "c" / "9" / str(done)).mkdir(parents=True)
        (tmp_path / "k" / "c" / "9" / str(done) / "5.0a1b.partial").write_bytes(b"half")

    stored = compute(limit.ntk, x, store=tmp_path / "k", tile=10, progress=die_while_writing)
    assert files(stored) == files(compute(limit.ntk, x, store=tmp_path / "other", tile=10))


def test_another_job_is_refused_with_what_differs(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path, files: Files
) -> None:
    store = tmp_path / "k"
    before = files(compute(limit.ntk, x, store=store, tile=10))
    with pytest.raises(OutputError, match="kernel is nngp and was ntk"):
        compute(limit.nngp, x, store=store, tile=10)
    with pytest.raises(OutputError, match="tile is 11 and was 10"):
        compute(limit.ntk, x, store=store, tile=11)
    with pytest.raises(OutputError, match=r"x1\.sha256"):
        compute(limit.ntk, x + 1e-15, store=store, tile=10)
    other = ff.infinite_width(limit.model, 2.0, 0.1001)
    with pytest.raises(OutputError, match="other values for the same inputs"):
        compute(other.ntk, x, store=store, tile=10)
    with pytest.raises(OutputError, match="already; resume"):
        compute(limit.ntk, x, store=store, tile=10, resume=False)
    first = ff.empirical_ntk(ff.mlp(3, [8], 1).double())
    compute(first, x, store=tmp_path / "e")
    with pytest.raises(OutputError, match="parameters is"):
        compute(ff.empirical_ntk(ff.mlp(3, [8], 1).double()), x, store=tmp_path / "e")
    assert files(open_kernel(store)) == before


DAMAGE = {
    "shape": ("shape", [30, 37]),
    "numbers of another type": ("data_type", "float32"),
    "tiles of another size": ("chunk_grid", {
        "name": "regular", "configuration": {"chunk_shape": [20, 20]},
    }),
    "no checksums": ("codecs", [{"name": "bytes", "configuration": {"endian": "little"}}]),
    "zeros for what is absent": ("fill_value", 0.0),
    "no job": ("attributes", {"farfield": {}}),
    "words for a job": ("attributes", {"farfield": "a kernel"}),
    "an incomplete job": ("attributes", {"farfield": {"job": {"x1": {"shape": [37, 3]}}}}),
}  # fmt: skip


def test_a_damaged_description_is_refused(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path
) -> None:
    compute(limit.ntk, x, store=tmp_path / "k", tile=10)
    path = tmp_path / "k" / "zarr.json"
    whole = path.read_text()
    texts = {
        name: json.dumps(json.loads(whole) | {key: value}) for name, (key, value) in DAMAGE.items()
    }
    for name, text in (texts | {"cut off": whole[:50], "empty": "", "a list": "[]"}).items():
        path.write_text(text)
        for attempt in (
            lambda: open_kernel(tmp_path / "k"),
            lambda: compute(limit.ntk, x, store=tmp_path / "k", tile=10),
        ):
            with pytest.raises(OutputError, match=r"damaged.*(remove|choose)") as raised:
                attempt()
            assert str(tmp_path / "k") in str(raised.value), name
        assert path.read_text() == text, name
    path.write_text(whole)
    assert open_kernel(tmp_path / "k").complete


def test_a_place_means_the_same_everywhere(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path, files: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x.numpy())
    stored = compute(limit.ntk, "x.npy", store="k", tile=10)
    assert stored.address == str(tmp_path / "k")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert stored.read(slice(0, 10), slice(0, 10)).shape == (10, 10)
    url = compute(limit.ntk, x, store=f"file://{tmp_path}/url", tile=10)
    assert url.address == str(tmp_path / "url")
    assert files(url) == files(stored) == files(open_kernel(f"file://{tmp_path}/url"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_stores_of_others_are_left_alone(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="something else than a kernel"):
        compute(limit.ntk, x, store=tmp_path / "folder")
    with pytest.raises(OutputError, match="something else than a kernel"):
        compute(limit.ntk, x, store=f"file://{tmp_path}/folder")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["letter.txt"]
    (tmp_path / "file").write_text("dear")
    with pytest.raises(OutputError, match="is a file"):
        compute(limit.ntk, x, store=tmp_path / "file")
    zarr.create_array(str(tmp_path / "zarr"), shape=(3,), dtype="float64")
    with pytest.raises(OutputError, match="not a kernel of farfield"):
        compute(limit.ntk, x, store=tmp_path / "zarr")
    with pytest.raises(DataError, match="no kernel"):
        open_kernel(tmp_path / "nothing")


def test_bad_input_is_refused_before_anything_is_written(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path, as_users_run_it: None
) -> None:
    store = tmp_path / "k"
    with pytest.raises(SettingsError, match="tile is 0"):
        compute(limit.ntk, x, store=store, tile=0)
    with pytest.raises(SettingsError, match="features"):
        compute(limit.ntk, x, x[:, :2], store=store)
    with pytest.raises(SettingsError, match="no rows"):
        compute(limit.ntk, x[:0], store=store)
    with pytest.raises(SettingsError, match="NaN"):
        compute(limit.ntk, x / 0.0, store=store)
    last = x.clone()
    last[-2, 1] = torch.inf  # in none of the rows that a store remembers
    with pytest.raises(SettingsError, match="1 of the 111 numbers of the inputs are NaN"):
        compute(limit.ntk, x, last, store=store, tile=10)
    for options, message in (
        ({"dtype": torch.bfloat16}, "bfloat16, which a store cannot hold"),
        ({"dtype": torch.int64}, r"read as torch.int64; give dtype=torch.float64"),
        ({"dtype": "float32"}, "dtype is 'float32'"),
        ({"device": "gpu"}, "device is 'gpu'"),
        ({"device": "cuda:99"}, "device is 'cuda:99', on which this process cannot compute"),
        ({"client": "tcp://scheduler:8786"}, "client is of type str"),
        ({"store": ""}, "store is ''"),
        ({"tile": True}, "tile is True"),
    ):
        with pytest.raises(SettingsError, match=message):
            compute(limit.ntk, x, **{"store": store, **options})
    full = ff.empirical_ntk(ff.mlp(3, [4], 2).double(), outputs="full")
    with pytest.raises(SettingsError, match="one number"):
        compute(full, x, store=store)
    assert not store.exists()


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    x = torch.tensor([[0.0], [0.5], [1.0], [1e20], [2.0], [3.0]], dtype=torch.float64)
    x = x.repeat_interleave(20, 0)
    kernel = ff.Kernel(lambda a, b: (a @ b.T) ** 20, lambda a: a[:, 0] ** 40)
    with pytest.raises(RangeError, match="not finite"):
        compute(kernel, x, store=tmp_path / "k", tile=7)


_SCRIPT = """
import sys, torch, farfield as ff
torch.manual_seed(0)
x = torch.randn(600, 3, dtype=torch.float64)
limit = ff.infinite_width(ff.mlp(3, [8, 8], 1, norm="layer"), 2.0, 0.1)
def told(done, total):
    print(done, flush=True)
try:
    ff.scale.compute(limit.ntk, x, store=sys.argv[1], tile=40, progress=told)
except ff.errors.OutputError as error:
    sys.exit(f"told: {error}")
"""


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, files: Files) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, "-c", _SCRIPT, whole], check=True, capture_output=True)
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, killed], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 20:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with pytest.raises(DataError, match="not finished"):
        open_kernel(killed)
    subprocess.run([sys.executable, "-c", _SCRIPT, killed], check=True, capture_output=True)
    assert files(open_kernel(killed)) == files(open_kernel(whole))


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, tmp_path / "k"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "told: Cannot write to" in done.stderr
    assert "run the same again" in done.stderr
    subprocess.run([sys.executable, "-c", _SCRIPT, tmp_path / "k"], check=True)
    assert open_kernel(tmp_path / "k").complete


def test_a_place_where_no_folder_can_be(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    limit = ff.infinite_width(ff.mlp(1, [8], 1), 2.0, 0.1)
    with pytest.raises(OutputError, match="Cannot make the store"):
        compute(limit.ntk, torch.ones(2, 1, dtype=torch.float64), store=blocked / "k")


def test_stores_at_other_addresses(limit: InfiniteWidth, x: torch.Tensor) -> None:
    """A store need not be on a disk: fsspec's memory stands for object stores."""
    address = f"memory://kernels/{time.monotonic_ns()}.zarr"
    stored = compute(limit.ntk, x, store=address, tile=10)
    np.testing.assert_allclose(stored.array[:], limit.ntk(x).numpy(), rtol=1e-13)
    assert open_kernel(address).complete
