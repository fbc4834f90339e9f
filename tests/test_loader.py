"""Decoding once, the cache, the order of items, and worker processes."""

import hashlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lesionseg.config import DataConfig
from lesionseg.data import loader
from lesionseg.data.images import decode_photo, read_image, read_mask, resize_mask, resize_photo
from lesionseg.data.loader import EpochSampler, Loader, PairDataset, decode_pairs, make_loader, read_pair
from lesionseg.data.recorded import require_recorded
from lesionseg.data.transforms import Augmentation, augmentation
from lesionseg.data.workers import starting_workers
from lesionseg.errors import DataError, ImageError, OutputError
from lesionseg.records import Case

Make = Callable[..., Case]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a photo and a mask; the photo's blue is the seed."""

    def write(name: str, seed: int = 0, width: int = 80, height: int = 60, suffix: str = ".png") -> Case:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels[..., 2] = seed
        image, mask = tmp_path / f"{name}{suffix}", tmp_path / f"{name}_mask.png"
        Image.fromarray(pixels).save(image)
        Image.fromarray((pixels[..., 0] > 128) * np.uint8(255)).save(mask)
        return Case(name, image, mask)

    return write


@pytest.fixture
def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def fail(case: Case, *_: int) -> None:
            pytest.fail(f"{case.case_id} was decoded again")

        monkeypatch.setattr(loader, "read_pair", fail)

    return forbid


# --- one pair ---------------------------------------------------------------------------------------------------------


def test_a_pair_is_resized_as_the_rules_say(make: Make) -> None:
    case = make("a", 5)
    pair = read_pair(case, 32, 64)
    assert case.mask is not None
    assert pair.case_id == "a"
    assert np.array_equal(pair.image, resize_photo(read_image(case.image), 32, 64))
    assert np.array_equal(pair.mask, resize_mask(read_mask(case.mask), 32, 64))
    assert pair.mask.dtype == np.bool_


def test_jpegs_that_are_decoded_smaller_still_fit_their_masks(make: Make) -> None:
    case = make("a", 5, width=803, height=601, suffix=".jpg")
    pair = read_pair(case, 32, 64)
    # A quarter of 601 x 803 is the smallest that keeps twice 32 x 64.
    quarter = decode_photo(case.image.read_bytes(), "x", at_least=(64, 128))
    assert quarter.pixels.shape == (151, 201, 3)
    assert quarter.box == (0, 0, 200.75, 150.25)
    # The last row and column lie mostly outside the photo.
    inside = Image.fromarray(quarter.pixels).resize((64, 32), Image.Resampling.BILINEAR, box=quarter.box)
    assert np.array_equal(pair.image, inside)
    assert pair.mask.any()


def test_pairs_that_cannot_be_used(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="a has no mask"):
        read_pair(Case("a", make("a").image), 32, 32)
    other = make("b", width=60, height=80)
    with pytest.raises(ImageError, match=r"b_mask\.png is 60 x 80, its photo 80 x 60"):
        read_pair(Case("c", make("a").image, other.mask), 32, 32)
    with pytest.raises(ImageError, match=r"gone\.png does not exist"):
        read_pair(Case("c", tmp_path / "gone.png", other.mask), 32, 32)


# --- all pairs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
def test_pairs_keep_their_order(make: Make, tmp_path: Path, cached: bool) -> None:
    cases = [make(f"c{seed}", seed) for seed in (9, 3, 7, 1)]
    told: list[tuple[int, int]] = []
    photos, masks = decode_pairs(
        cases, 32, 64, cache=tmp_path / "cache" if cached else None, progress=lambda *now: told.append(now)
    )
    assert photos.shape == (4, 32, 64, 3)
    assert masks.shape == (4, 1, 32, 64)
    assert photos.dtype == masks.dtype == np.uint8
    assert photos[:, 0, 0, 2].tolist() == [9, 3, 7, 1]
    assert set(np.unique(masks)) == {0, 1}
    for index, case in enumerate(cases):
        assert np.array_equal(masks[index, 0], read_pair(case, 32, 64).mask)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert isinstance(photos, np.memmap) == cached


@pytest.mark.parametrize("cached", [False, True])
def test_all_bad_cases_are_listed(make: Make, tmp_path: Path, cached: bool) -> None:
    good, damaged, turned, gone = make("good"), make("damaged"), make("turned"), make("gone")
    damaged.image.write_bytes(damaged.image.read_bytes()[:200])
    gone.image.unlink()
    cases = [
        damaged,
        good,
        Case("turned", turned.image, make("other", width=60, height=80).mask),
        gone,
        Case("unlabelled", good.image),
    ]
    with pytest.raises(DataError, match=r"^4 of 5 cases cannot be used") as caught:
        decode_pairs(cases, 32, 32, cache=tmp_path / "cache" if cached else None)
    expected = [
        f"damaged: {damaged.image} is damaged",
        f"turned: {tmp_path / 'other_mask.png'} is 60 x 80, its photo 80 x 60",
        f"gone: {gone.image} does not exist",
        "unlabelled: unlabelled has no mask",
    ]
    assert len(caught.value.problems) == len(expected)
    for start, problem in zip(expected, caught.value.problems, strict=True):
        assert problem.startswith(start)
    assert not list(tmp_path.glob("cache/*"))


# --- cache ------------------------------------------------------------------------------------------------------------


def test_the_cache_is_used_again(make: Make, tmp_path: Path, forbid_decoding: Callable[[], None]) -> None:
    cases = [make("a", 1), make("b", 2)]
    first = [np.array(part) for part in decode_pairs(cases, 32, 32, cache=tmp_path / "cache")]
    files = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert [name.split("-")[-1] for name in files] == ["masks.npy", "photos.npy", "sha256.json"]
    forbid_decoding()
    again = decode_pairs(cases, 32, 32, cache=tmp_path / "cache")
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("length", [0, 100, 1000])
def test_a_cache_that_is_cut_off_is_made_anew(make: Make, tmp_path: Path, length: int) -> None:
    cases = [make("a", 1), make("b", 2)]
    first = [np.array(part) for part in decode_pairs(cases, 32, 32, cache=tmp_path / "cache")]
    (photos,) = (tmp_path / "cache").glob("*-photos.npy")
    photos.write_bytes(photos.read_bytes()[:length])
    again = decode_pairs(cases, 32, 32, cache=tmp_path / "cache")
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("part", ["photos", "masks", "sha256"])
def test_a_cache_with_a_wrong_byte_is_made_anew(make: Make, tmp_path: Path, part: str) -> None:
    cases, told = [make("a", 1), make("b", 2)], []
    first = [np.array(part) for part in decode_pairs(cases, 32, 32, cache=tmp_path / "cache", warn=told.append)]
    assert told == []
    (file,) = (tmp_path / "cache").glob(f"*-{part}.*")
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    again = decode_pairs(cases, 32, 32, cache=tmp_path / "cache", warn=told.append)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert len(told) == 1
    assert "is damaged, and is made anew" in told[0]
    decode_pairs(cases, 32, 32, cache=tmp_path / "cache", warn=told.append)
    assert len(told) == 1


# --- what the manifest records ----------------------------------------------------------------------------------------


def recorded(case: Case) -> Case:
    return replace(case, sha256=hashlib.sha256(case.image.read_bytes()).hexdigest())


@pytest.mark.parametrize("cached", [False, True])
def test_photos_that_have_changed_since_they_were_recorded(make: Make, tmp_path: Path, cached: bool) -> None:
    cases = [recorded(make(name, seed)) for seed, name in enumerate("abcd")] + [make("unknown", 7)]
    cache = tmp_path / "cache" if cached else None
    decode_pairs(cases, 32, 32, cache=cache)
    for name in "bd":
        make(name, 100)
    with pytest.raises(DataError, match="2 of 4 photos are not the ones that the manifest records") as caught:
        decode_pairs(cases, 32, 32, cache=cache)
    assert caught.value.problems == tuple(f"{name}: {tmp_path / name}.png" for name in "bd")
    with pytest.raises(DataError, match="2 of 4 photos"):
        require_recorded(cases, pytest.fail)
    require_recorded([cases[0], cases[2], cases[4]], pytest.fail)


def test_another_copy_of_a_data_set_is_a_warning(make: Make) -> None:
    case = make("a")
    told: list[str] = []
    cases = [replace(case, case_id=str(number), sha256="0" * 64) for number in range(20)]
    decode_pairs(cases, 32, 32, warn=told.append)
    require_recorded(cases, told.append)
    assert len(told) == 2
    assert all("none of the 20 photos has the SHA-256 that the manifest records" in line for line in told)
    with pytest.raises(DataError, match="20 of 21 photos"):
        require_recorded([*cases, recorded(case)], told.append)
    with pytest.raises(DataError, match="19 of 19 photos"):
        require_recorded(cases[:19], told.append)


def swap_photo(cases: list[Case]) -> list[Case]:
    # Another photo of the same size in bytes: only the time tells.
    stat = cases[0].image.stat()
    cases[0].image.write_bytes(cases[1].image.read_bytes())
    assert cases[0].image.stat().st_size == stat.st_size
    os.utime(cases[0].image, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    return cases


def touch_mask(cases: list[Case]) -> list[Case]:
    assert cases[1].mask is not None
    Image.fromarray(np.full((60, 80), 255, np.uint8)).save(cases[1].mask)
    return cases


@pytest.mark.parametrize(
    "change",
    [swap_photo, touch_mask, lambda cases: cases[::-1], lambda cases: cases[:1]],
    ids=["photo", "mask", "order", "fewer"],
)
def test_the_cache_is_made_anew_when_a_file_or_the_order_changes(
    make: Make, tmp_path: Path, change: Callable[[list[Case]], list[Case]]
) -> None:
    cases = [make("a", 1, suffix=".bmp"), make("b", 2, suffix=".bmp")]
    decode_pairs(cases, 32, 32, cache=tmp_path / "cache")
    changed = change(cases)
    fresh = decode_pairs(changed, 32, 32)
    cached = decode_pairs(changed, 32, 32, cache=tmp_path / "cache")
    assert all(np.array_equal(one, other) for one, other in zip(fresh, cached, strict=True))
    assert len(list((tmp_path / "cache").iterdir())) == 6


def test_the_cache_keeps_sizes_apart(make: Make, tmp_path: Path) -> None:
    for height, width in ((32, 64), (64, 32), (32, 32)):
        photos, _ = decode_pairs([make("a")], height, width, cache=tmp_path / "cache")
        assert photos.shape == (1, height, width, 3)


def test_a_cache_that_cannot_be_written(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot hold the cache"):
        decode_pairs([make("a")], 32, 32, cache=tmp_path / "file" / "cache")


def test_one_cache_filled_from_two_sides_at_once(make: Make, tmp_path: Path) -> None:
    cases = [make(f"c{seed}", seed) for seed in range(6)]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(decode_pairs(cases, 32, 32, cache=tmp_path / "cache")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [photos[:, 0, 0, 2].tolist() for photos, _ in results] == [[0, 1, 2, 3, 4, 5]] * 4
    assert len(list((tmp_path / "cache").iterdir())) == 3, "no part is left over"


# --- items ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [None, {"flip": 1.0, "rotate90": 0.5, "brightness": 0.3}])
def test_items_of_a_read_only_cache(make: Make, tmp_path: Path, options: dict[str, float] | None) -> None:
    augment = augmentation(DataConfig(manifest="x", image_size=32, **options), 0) if options else None
    arrays = decode_pairs([make("a", 1)], 32, 32, cache=tmp_path / "cache")
    assert not arrays[0].flags.writeable
    cached = PairDataset(*arrays, augment)[3, 0]
    fresh = PairDataset(*decode_pairs([make("a", 1)], 32, 32), augment)[3, 0]
    for name in ("image", "mask"):
        assert torch.equal(cached[name], fresh[name])
        assert cached[name].dtype == torch.uint8
    assert cached["image"].shape == (3, 32, 32)
    assert cached["mask"].shape == (1, 32, 32)


@pytest.mark.parametrize("augment", [None, augmentation(DataConfig(manifest="x", brightness=0.1, flip=0.5), 0)])
def test_items_are_copies(make: Make, augment: Augmentation | None) -> None:
    photos, masks = decode_pairs([make("a", 1)], 32, 32)
    before = photos.copy(), masks.copy()
    for epoch in range(8):
        item = PairDataset(photos, masks, augment)[epoch, 0]
        assert int(item["mask"].sum()) == before[1].sum()
        item["image"].zero_()
        item["mask"].fill_(7)
    assert np.array_equal(photos, before[0])
    assert np.array_equal(masks, before[1])


def test_items_are_the_arrays(make: Make) -> None:
    photos, masks = decode_pairs([make("a", 1), make("b", 2)], 32, 32)
    item = PairDataset(photos, masks)[0, 1]
    assert np.array_equal(item["image"].numpy().transpose(1, 2, 0), photos[1])
    assert np.array_equal(item["mask"].numpy(), masks[1])
    assert int(item["index"]) == 1
    assert len(PairDataset(photos, masks)) == 2


# --- order ------------------------------------------------------------------------------------------------------------


def sampler_at(size: int, batch: int, seed: int | None, epoch: int = 0, start: int = 0) -> EpochSampler:
    sampler = EpochSampler(size, batch, seed)
    sampler.epoch, sampler.start = epoch, start
    return sampler


@given(st.integers(0, 40), st.integers(1, 9), st.none() | st.integers(0, 2**32 - 1), st.integers(0, 99))
def test_every_item_comes_once_in_full_batches_but_the_last(
    size: int, batch: int, seed: int | None, epoch: int
) -> None:
    batches = list(sampler_at(size, batch, seed, epoch))
    assert len(batches) == len(sampler_at(size, batch, seed)) == -(-size // batch)
    assert all(len(part) == batch for part in batches[:-1])
    items = [item for part in batches for item in part]
    assert {at for at, _ in items} <= {epoch}
    indices = [index for _, index in items]
    assert sorted(indices) == list(range(size))
    if seed is None:
        assert indices == list(range(size))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.data())
def test_start_leaves_out_exactly_the_first_batches(
    size: int, batch: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    everything = list(sampler_at(size, batch, seed, epoch))
    start = data.draw(st.integers(0, len(everything)))
    assert list(sampler_at(size, batch, seed, epoch, start)) == everything[start:]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    used = EpochSampler(30, 4, 5)
    for epoch in (2, 0, 1):
        used.epoch = epoch
        list(used)
        torch.manual_seed(epoch)
        assert list(used) == list(sampler_at(30, 4, 5, epoch))

    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(index for part in sampler_at(30, 4, seed, epoch) for _, index in part)

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


def test_the_batch_size_does_not_change_the_order() -> None:
    flat = [[item for part in sampler_at(30, batch, 5) for item in part] for batch in (1, 7, 30, 99)]
    assert flat[0] == flat[1] == flat[2] == flat[3]


# --- workers ----------------------------------------------------------------------------------------------------------


def batches_of(dataset: PairDataset, workers: int, method: str = "fork") -> list[dict[str, torch.Tensor]]:
    sampler = EpochSampler(len(dataset), 4, 11)
    batches = make_loader(dataset, sampler, workers)
    if workers:
        batches.multiprocessing_context = method
    found = []
    for epoch, start in ((0, 0), (1, 2), (2, 0)):
        sampler.epoch, sampler.start = epoch, start
        found += list(batches)
    return found


def test_worker_processes_change_nothing(make: Make, tmp_path: Path) -> None:
    cases = [make(f"c{seed}", seed) for seed in range(10)]
    config = DataConfig(manifest="x", image_size=32, flip=0.5, rotate90=0.5, brightness=0.3)
    arrays = decode_pairs(cases, 32, 32, cache=tmp_path / "cache")
    alone = batches_of(PairDataset(*arrays, augmentation(config, 11)), 0)
    helped = batches_of(PairDataset(*arrays, augmentation(config, 11)), 2)
    assert len(alone) == len(helped) == 3 + 1 + 3
    for one, other in zip(alone, helped, strict=True):
        assert one.keys() == other.keys() == {"image", "mask", "index"}
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert alone[0]["image"].shape == (4, 3, 32, 32)
    assert alone[0]["index"].dtype == torch.int64
    plain = batches_of(PairDataset(*arrays), 0)
    assert any(not torch.equal(one["image"], other["image"]) for one, other in zip(alone, plain, strict=True))
    assert all(torch.equal(one["index"], other["index"]) for one, other in zip(alone, plain, strict=True))


EVERYTHING = DataConfig(
    manifest="x",
    image_size=32,
    **dict.fromkeys(("flip", "rotate90", "scale", "brightness", "colour", "contrast", "illumination", "blur"), 0.5),
    **dict.fromkeys(("noise", "melanin", "haze", "hair", "artefacts", "cutout", "lens"), 0.5),
    rotate=20,
    shift=0.1,
    distance=2,
    jpeg=50,
)


def test_everything_that_a_worker_gets_can_be_pickled(make: Make, tmp_path: Path) -> None:
    arrays = decode_pairs([make(f"c{seed}", seed) for seed in range(3)], 32, 32, cache=tmp_path / "cache")
    dataset = PairDataset(*arrays, augmentation(EVERYTHING, 11))
    data = pickle.dumps(dataset)
    assert dataset.photos.tobytes() not in data
    copy: PairDataset = pickle.loads(data)  # noqa: S301 - made here
    assert isinstance(copy.photos, np.memmap)
    for item in ((0, 0), (3, 2), (5, 1)):
        one, other = dataset[item], copy[item]
        assert all(torch.equal(one[name], other[name]) for name in ("image", "mask", "index"))
    part: PairDataset = pickle.loads(pickle.dumps(PairDataset(arrays[0][1:], arrays[1][1:])))  # noqa: S301
    assert np.array_equal(part.photos, arrays[0][1:])


@pytest.mark.long
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_every_way_to_start_workers_gives_the_same_bits(make: Make, method: str) -> None:
    arrays = decode_pairs([make(f"c{seed}", seed) for seed in range(6)], 32, 32)
    dataset = PairDataset(*arrays, augmentation(EVERYTHING, 11))
    alone, helped = batches_of(dataset, 0), batches_of(dataset, 1, method)
    assert len(alone) == len(helped)
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


class Slow(PairDataset):
    """Serves a batch in a tenth of a second."""

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        time.sleep(0.02)
        return super().__getitem__(item)


def slow_loader(workers: int = 2) -> Loader:
    dataset = Slow(np.zeros((60, 8, 8, 3), np.uint8), np.zeros((60, 1, 8, 8), np.uint8))
    return make_loader(dataset, EpochSampler(60, 4), workers)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signals to processes")
def test_workers_leave_signals_to_the_training() -> None:
    served = 0
    for _ in slow_loader():
        served += 1
        if served == 2:
            for child in multiprocessing.active_children():
                assert child.pid is not None
                for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    os.kill(child.pid, kind)
    assert served == 15


def test_closing_a_loader_ends_its_workers_without_a_word() -> None:
    batches = slow_loader()
    iterator = iter(batches)
    next(iterator)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    batches.close()
    # torch's handler would have raised here.
    time.sleep(0.05)
    assert not any(worker.is_alive() for worker in workers)


def test_signals_that_arrive_while_workers_start_are_not_lost() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with starting_workers(set()):
            # To this thread: another one of the process may have none of its signals held back.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert received == []
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


ORPHANS = """
import multiprocessing, sys, time
from test_loader import slow_loader
batches = iter(slow_loader())
next(batches)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
{rest}
"""


@pytest.mark.long
@pytest.mark.parametrize("rest", ["time.sleep(600)", "raise SystemExit('a bug')"], ids=["killed", "ended"])
def test_workers_end_with_the_training(rest: str) -> None:
    command = [sys.executable, "-c", ORPHANS.format(rest=rest)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as done:
        assert done.stdout is not None
        workers = [int(word) for word in done.stdout.readline().split()]
        assert len(workers) == 2
        if "sleep" in rest:
            done.kill()
        assert done.wait(20)
        assert done.stderr is not None
        assert done.stderr.read() == ("" if "sleep" in rest else "a bug\n")
    deadline = time.monotonic() + 3
    while any(is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [worker for worker in workers if is_running(worker)] == []


def is_running(process: int) -> bool:
    try:
        # Whoever adopts an orphan may leave it as a zombie.
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
