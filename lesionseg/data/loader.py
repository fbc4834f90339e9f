"""Pairs decoded once, kept as uint8 at the training size, and served in an order that depends on the seed alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from mmap import mmap
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from lesionseg.data.images import decode_photo, fit_photo, read_bytes
from lesionseg.data.labels import BINARY, Labels
from lesionseg.data.recorded import RecordedPhotos
from lesionseg.data.transforms import Augmentation
from lesionseg.data.workers import begin_worker, end_workers, starting_workers
from lesionseg.errors import DataError, ImageError, LesionsegError, OutputError
from lesionseg.io.leftovers import sweep, temporary_name
from lesionseg.io.reading import read_json
from lesionseg.io.writing import PART, write_atomic
from lesionseg.records import Case, Pair

__all__ = ["EpochSampler", "Loader", "PairDataset", "decode_pairs", "make_loader", "read_pair"]

_Item = tuple[int, int]


def read_pair(
    case: Case, height: int, width: int, labels: Labels = BINARY, recorded: RecordedPhotos | None = None
) -> Pair:
    """Decodes a case and resizes it: the photo bilinear with antialiasing, the mask nearest.

    Args:
        case: a photo and its mask.
        height, width: the size to bring them to, in pixels.
        labels: what the mask's pixels mean.
        recorded: where the photo is compared with what its manifest records.

    Raises:
        ImageError: a file cannot be decoded, there is no mask, or the sizes differ.
    """
    if case.mask is None:
        raise ImageError(f"{case.case_id} has no mask", fix="leave it out of training, or add its mask")
    # At least twice the target: scaled JPEG decoding then moves the resized pixels by 0.2 of 255 on average.
    data, mask = read_bytes(case.image), labels.read(case.mask)
    if recorded is not None:
        recorded.add(case, data)
    photo = decode_photo(data, str(case.image), at_least=(2 * height, 2 * width), like=(mask.shape[0], mask.shape[1]))
    if mask.shape != (photo.height, photo.width):
        raise ImageError(
            f"{case.mask} is {mask.shape[1]} x {mask.shape[0]}, its photo {photo.width} x {photo.height}",
            fix="replace the mask by one of the photo's size",
        )
    return Pair(case.case_id, fit_photo(photo, height, width), labels.fit(mask, height, width))


def decode_pairs(
    cases: Sequence[Case],
    height: int,
    width: int,
    *,
    labels: Labels = BINARY,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decodes all cases once.

    Args:
        cases: what to decode.
        height, width: the training size in pixels.
        labels: what the masks' pixels mean.
        cache: a folder for memory-mapped arrays, reused while the cases' files and the size stay the same; None keeps
            the arrays in memory.
        progress: called with (done, total).
        warn: called with a line where the cache was damaged, or the photos are of another copy of the data set.

    Returns:
        photos ``uint8 N H W 3`` and masks ``uint8 N 1 H W`` of 0 and 1, or of class indices.

    Raises:
        DataError: listing every file that cannot be used, or every photo that is not the one of its manifest.
        OutputError: the cache folder cannot be written to.
    """
    key = _cache_key(cases, height, width, labels) if cache else ""
    files = [cache / f"{key}-{part}.npy" for part in ("photos", "masks")] if cache else []
    if files and (kept := _load(files, len(cases), warn)) is not None:
        return kept
    recorded = RecordedPhotos()
    photos = np.empty((len(cases), height, width, 3), np.uint8)
    masks = np.empty((len(cases), 1, height, width), np.uint8)
    problems: list[str] = []
    with ThreadPoolExecutor() as pool:
        read = partial(_try_read, height=height, width=width, labels=labels, recorded=recorded)
        for index, result in enumerate(pool.map(read, cases)):
            if isinstance(result, ImageError):
                problems.append(f"{cases[index].case_id}: {result.message}")
            else:
                photos[index], masks[index, 0] = result.image, result.mask
            if progress:
                progress(index + 1, len(cases))
    if problems:
        raise DataError(
            f"{len(problems)} of {len(cases)} cases cannot be used",
            problems=problems,
            fix="replace these files, or take their rows out of the manifest",
        )
    recorded.require(warn)
    if not files:
        return photos, masks
    _save(files, (photos, masks))
    kept = _load(files, len(cases), warn)
    # Where the disk does not keep what was written, the memory does.
    return (photos, masks) if kept is None else kept


def _load(
    files: Sequence[Path], count: int, warn: Callable[[str], None]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """What is kept; None where there is nothing, or it is not what was written."""
    if not all(file.is_file() for file in (*files, _digests(files))):
        return None
    try:
        known = read_json(_digests(files))
        if known == {file.name: _digest(file) for file in files}:
            photos, masks = (np.load(file, mmap_mode="r") for file in files)
            if len(photos) == len(masks) == count:
                return photos, masks
    except (LesionsegError, OSError, ValueError, EOFError):
        # What a power cut or a full disk has left of it.
        pass
    warn(f"{files[0].parent}: what is kept of these photos is damaged, and is made anew")
    return None


def _digests(files: Sequence[Path]) -> Path:
    return files[0].with_name(files[0].name.replace("-photos.npy", "-sha256.json"))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _try_read(case: Case, height: int, width: int, labels: Labels, recorded: RecordedPhotos) -> Pair | ImageError:
    try:
        return read_pair(case, height, width, labels, recorded)
    except ImageError as error:
        return error


def _cache_key(cases: Sequence[Case], height: int, width: int, labels: Labels) -> str:
    digest = hashlib.sha256(f"3 {height} {width} {labels}".encode())
    for case in cases:
        # Photos are compared with their manifest while they are decoded.
        digest.update(f"{case.sha256}\0".encode())
        for path in (case.image, case.mask):
            try:
                stat = path.stat() if path else None
            except OSError:
                # Nothing is ever stored under such a key: decoding names the file that is missing.
                stat = None
            digest.update(os.fsencode(f"{path}\0{stat.st_size if stat else 0}\0{stat.st_mtime_ns if stat else 0}\0"))
    return digest.hexdigest()[:24]


def _save(files: Sequence[Path], arrays: Sequence[NDArray[np.uint8]]) -> None:
    try:
        digests = {}
        for file, array in zip(files, arrays, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            sweep(file.parent, PART)
            # A name of its own: two runs may fill one cache at the same time.
            temporary = file.with_name(temporary_name(PART, ".npy"))
            try:
                np.save(temporary, array)
                digests[file.name] = _digest(temporary)
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
        write_atomic(_digests(files), json.dumps(digests).encode())
    except OSError as error:
        raise OutputError(
            f"{files[0].parent} cannot hold the cache: {error.strerror}", fix="free space or set data.cache=null"
        ) from error


class PairDataset(Dataset[dict[str, torch.Tensor]]):
    """Decoded pairs as tensors; items are asked for as (epoch, index).

    An item holds ``image`` (``uint8 3 H W``), ``mask`` (``uint8 1 H W``, 0 or 1, or class indices) and ``index``
    (``int64``).
    """

    def __init__(
        self, photos: NDArray[np.uint8], masks: NDArray[np.uint8], augment: Augmentation | None = None
    ) -> None:
        self.photos, self.masks, self.augment = photos, masks, augment

    def __len__(self) -> int:
        return len(self.photos)

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker maps the cache's files as this process does, rather than receive all of their bytes.
        return self.__dict__ | {"photos": _portable(self.photos), "masks": _portable(self.masks)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {name: _mapped(state[name]) for name in ("photos", "masks")})

    def __getitem__(self, item: _Item) -> dict[str, torch.Tensor]:
        epoch, index = item
        # Copies: torch wants to write to its arrays, and a memory-mapped cache is read-only.
        image, mask = np.array(self.photos[index].transpose(2, 0, 1), order="C"), np.array(self.masks[index])
        if self.augment is None:
            tensors = {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask)}
        else:
            tensors = self.augment(image, mask, epoch, index)
        return tensors | {"index": torch.tensor(index)}


def _portable(array: NDArray[np.uint8]) -> NDArray[np.uint8] | Path:
    """The file of an array that maps all of one; other arrays as they are."""
    # A part of a mapped array has that one as its base.
    base, filename = (getattr(array, name, None) for name in ("base", "filename"))
    return filename if isinstance(base, mmap) and isinstance(filename, Path) else array


def _mapped(array: NDArray[np.uint8] | Path) -> NDArray[np.uint8]:
    return np.load(array, mmap_mode="r") if isinstance(array, Path) else array


class EpochSampler(Sampler[list[_Item]]):
    """Batches of (epoch, index).

    Set ``epoch`` before each pass; set ``start`` to go on inside an epoch. With a seed, the order is shuffled by
    (seed, epoch); without, it is the data set's own.
    """

    def __init__(self, size: int, batch_size: int, seed: int | None = None) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.epoch = 0
        self.start = 0
        self.drop_last = False

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[_Item]]:
        order = np.arange(self.size)
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        for step in range(self.start, len(self)):
            part = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in part]


class Loader(DataLoader[dict[str, torch.Tensor]]):
    """A loader whose workers leave signals to the training process, and end with ``close``."""

    def __iter__(self) -> Any:
        with starting_workers(self._processes):
            return super().__iter__()

    @cached_property
    def _processes(self) -> set[BaseProcess]:
        return set()

    def close(self) -> None:
        """End the workers at once, also where an exception keeps the loader alive."""
        end_workers(self._processes)


def make_loader(dataset: PairDataset, sampler: EpochSampler, workers: int) -> Loader:
    """A loader over a sampler's batches, with its workers kept alive from epoch to epoch."""
    return Loader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=begin_worker,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _collate(items: list[dict[str, torch.Tensor]] | dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch; a data set that serves whole batches has made it already."""
    if isinstance(items, dict):
        return items
    batch: dict[str, torch.Tensor] = default_collate(items)
    return batch
