"""Where a stored kernel is: made, found again, and refused if it is something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farfield.errors import DataError, MissingExtraError, OutputError, SettingsError
from farfield.scale.extra import needs
from farfield.scale.job import KEY, SAME, Job, differences
from farfield.scale.store import StoredKernel

_UNFINISHED = "*.partial"  # zarr's files that a kill leaves behind
_UNDESCRIBED = "zarr.*.partial"  # the first of them
_LOCAL = ("file://", "local://")  # fsspec's names of this machine's disks


def open_kernel(store: str | Path) -> StoredKernel:
    """Open a kernel that :func:`farfield.scale.compute` has finished.

    Args:
        store: Its folder or address.

    Returns:
        The kernel.

    Raises:
        SettingsError: Neither a folder nor an address.
        DataError: There is none, or it is not finished.
        OutputError: It is something else than a kernel of farfield's, or its description is
            damaged.
        MissingExtraError: zarr, or what the address needs, is not installed.
    """
    stored = _opened(place_of(store), "r")
    if stored is None:
        raise DataError(f"There is no kernel in {store}.")
    if not stored.complete:
        raise DataError(
            f"The kernel in {store} is not finished: {stored.array.nchunks_initialized} of "
            f"{stored.array.nchunks} tiles are there. Run it again into the same store to go on."
        )
    return stored


def prepare(job: Job, store: str | Path, *, resume: bool) -> StoredKernel:
    """The store of a job: a new one, or that of an earlier run of the same job.

    Args:
        job: What is to be computed.
        store: A folder or an address that fsspec knows.
        resume: Whether an earlier run may go on.

    Returns:
        The store.

    Raises:
        SettingsError: Neither a folder nor an address.
        OutputError: The store belongs to another job, to another program, or to an earlier run
            that may not go on; or it cannot be written.
        MissingExtraError: zarr, or what the address needs, is not installed.
    """
    place = place_of(store)
    description = job.description()
    before = _opened(place, "r+")
    if before is None:
        _remove_unfinished(place)
        try:
            return StoredKernel(place, _made(place, description))
        except OSError as error:
            raise OutputError(
                f"Cannot make the store {store}: {error.strerror or error}. Choose another place."
            ) from error
    if not resume:
        raise OutputError(
            f"There is a kernel in {store} already; resume that run, or choose another store."
        )
    if found := differences(before.description, description):
        raise OutputError(
            f"The kernel in {store} is of another job: {'; '.join(found)}. Choose another store, "
            "or remove this one."
        )
    _remove_unfinished(place)
    return before


def finished(stored: StoredKernel) -> StoredKernel:
    """A store whose tiles have all been computed.

    Raises:
        OutputError: Some of them are not there.
    """
    if not stored.complete:
        raise elsewhere(stored)
    _remove_unfinished(stored.address)  # of a worker that died while it was writing
    return stored


def elsewhere(stored: StoredKernel) -> OutputError:
    """What is said of tiles that were written and are not there."""
    return OutputError(
        f"Tiles were computed, and yet are not all in {stored.address}: the workers write to a "
        "place of their own. Choose a store that this process and all workers share, such as a "
        "network drive or an object store, and remove what is left of this one."
    )


def place_of(store: str | Path) -> str:
    """A folder by its whole path, which all processes understand alike; or an address.

    Raises:
        SettingsError: Neither.
    """
    if not isinstance(store, str | Path) or not str(store):
        raise SettingsError(
            f"store is {store!r}; give a folder, or an address such as s3://bucket/kernel.zarr."
        )
    text = str(store)
    for scheme in _LOCAL:
        text = text.removeprefix(scheme)
    return text if "://" in text else str(Path(text).absolute())


def _remove_unfinished(place: str) -> None:
    if "://" not in place:
        for leftover in Path(place).rglob(_UNFINISHED):
            leftover.unlink(missing_ok=True)


def _made(store: Any, description: Any) -> Any:
    """A new zarr array for the job of a description."""
    import zarr
    from zarr.codecs import Crc32cCodec

    job = description["job"]
    rows = job["x1"]["shape"][0]
    shape = rows, rows if job["x2"] == SAME else job["x2"]["shape"][0]
    return zarr.create_array(
        store,
        shape=shape,
        chunks=tuple(min(job["tile"], size) for size in shape),
        dtype=job["dtype"],
        fill_value=float("nan"),
        filters=None,
        compressors=[Crc32cCodec()],
        attributes={KEY: dict(description)},
        config={"write_empty_chunks": True},
    )


def _opened(place: str, mode: str) -> StoredKernel | None:
    """The kernel in a place, if there is anything."""
    with needs("zarr"):
        import zarr
        from zarr.errors import NodeNotFoundError
    local = "://" not in place
    if local and Path(place).is_file():
        raise OutputError(f"{place} is a file; a store is a folder.")
    try:
        array = zarr.open_array(place, mode=mode)
    except (FileNotFoundError, NodeNotFoundError):
        array = None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise OutputError(
            f"{place} cannot be read as a zarr array: {error}. Choose another store, or remove "
            "this one if its description is damaged."
        ) from error
    except ImportError as error:  # of the library that fsspec takes for such addresses
        raise MissingExtraError(f"{place} cannot be reached: {error}.") from error
    if array is None:
        # A kill while a store is made leaves nothing but its unfinished description.
        if local and any(not path.match(_UNDESCRIBED) for path in Path(place).glob("*")):
            raise OutputError(
                f"The folder {place} holds something else than a kernel; choose another one."
            )
        return None
    if KEY not in array.attrs:
        raise OutputError(
            f"The zarr array in {place} is not a kernel of farfield's; choose another store."
        )
    _check_layout(place, array)
    return StoredKernel(place, array)


def _check_layout(place: str, array: Any) -> None:
    """Refuse an array that is not laid out as its own description says.

    Another shape, dtype or value of absent tiles gives other numbers than were written.
    """
    from zarr.storage import MemoryStore

    try:
        meant = _made(MemoryStore(), array.attrs[KEY]).metadata.to_dict()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise OutputError(
            f"The description of the kernel in {place} is damaged ({type(error).__name__}: "
            f"{error}); remove the store, or choose another one."
        ) from error
    found = array.metadata.to_dict()
    changed = [name for name in meant if str(found.get(name)) != str(meant[name])]
    if changed:
        raise OutputError(
            f"The description of the kernel in {place} is damaged: "
            f"{', '.join(f'{name} is {found.get(name)}' for name in changed)}, which is not what "
            "its job says; remove the store, or choose another one."
        )
