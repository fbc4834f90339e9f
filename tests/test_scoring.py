"""Scores of a run, against numbers counted by hand."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from lesionseg.data.images import read_probability
from lesionseg.data.labels import BINARY, Labels
from lesionseg.errors import DataError, OutputError, RunError
from lesionseg.evaluation.metrics import EMPTY_MASK_POLICY
from lesionseg.helper import Crew
from lesionseg.inference import comparing, scoring
from lesionseg.inference.scoring import score_run
from lesionseg.records import Case

MEANS = ["dice", "iou", "accuracy", "sensitivity", "specificity", "thresholded_iou", "soft_dice", "soft_iou"]
COLUMNS = ["case_id", *MEANS, "tp", "fp", "fn", "tn", "lesion_fraction", "group"]
OUTLINES = ["hausdorff95", "surface_distance", "surface_dice", "boundary_iou", "area_error"]
FURTHER = [*OUTLINES, "ece", "ita", "hair", "ruler", "aspect"]


class RedChannel:
    """A predictor without a network: the probability is the photo's red channel."""

    name, checkpoint, sha256, height, width = "red", "epoch-0042", "a" * 64, 8, 8
    labels = BINARY

    def infer(self, batch):
        return batch[..., 0].astype(np.float32) / 255


def make_case(folder, case_id, red, truth, **fields):
    """A photo whose red channel is ``red`` (H W, 0 to 255), and a mask from ``truth`` (bool H W)."""
    folder.mkdir(exist_ok=True)
    photo = np.zeros((*red.shape, 3), np.uint8)
    photo[..., 0] = red
    image, mask = folder / f"{case_id}.png", folder / f"{case_id}_mask.png"
    Image.fromarray(photo).save(image)
    Image.fromarray(truth.astype(np.uint8) * 255).save(mask)
    return Case(case_id, image, mask, split="test", **fields)


def names_in(folder):
    return sorted(path.name for path in folder.glob("[!.]*"))


def columns_from(start, stop, height=8, width=8):
    mask = np.zeros((height, width), bool)
    mask[:, start:stop] = True
    return mask


@pytest.fixture
def cases(tmp_path):
    files = tmp_path / "files"
    half = make_case(
        files, "half", columns_from(0, 4) * 204, columns_from(2, 6), group="p1", labels={"diagnosis": "benign"}
    )
    none = make_case(files, "none", columns_from(0, 0) * 0, columns_from(0, 0), labels={"diagnosis": "=HYPERLINK(1)"})
    miss = make_case(files, "miss", columns_from(0, 2) * 255, columns_from(0, 0), labels={"age": "-1"})
    return [half, none, miss]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "some-run"
    folder.mkdir()
    return folder


def score(run, cases, **more):
    settings = {"split": "test", "manifest_sha256": "b" * 64, "predictor": RedChannel()} | more
    return score_run(run, cases, **settings)


def rows_of(folder):
    with (folder / "per_image.csv").open(encoding="utf-8", newline="") as file:
        return {row["case_id"]: row for row in csv.DictReader(file, strict=True)}


def test_scores_are_those_counted_by_hand(run, cases):
    folder = score(run, cases)
    assert folder == run / "evaluation" / "test"
    rows = rows_of(folder)
    assert list(rows["half"]) == [*COLUMNS, "age", "diagnosis", *FURTHER]
    half = rows["half"]
    # Columns 0 to 3 predicted with 0.8, columns 2 to 5 true: 16 pixels each of tp, fp, fn and tn.
    assert [half[name] for name in ("tp", "fp", "fn", "tn")] == ["16"] * 4
    assert float(half["dice"]) == 0.5
    assert float(half["iou"]) == 1 / 3
    assert [float(half[name]) for name in ("accuracy", "sensitivity", "specificity")] == [0.5] * 3
    assert float(half["thresholded_iou"]) == 0
    assert float(half["soft_dice"]) == pytest.approx(2 * 12.8 / (25.6 + 32), rel=1e-6)
    assert float(half["soft_iou"]) == pytest.approx(12.8 / (25.6 + 32 - 12.8), rel=1e-6)
    assert float(half["lesion_fraction"]) == 0.5
    assert (half["group"], half["diagnosis"], half["age"]) == ("p1", "benign", "")


def test_empty_masks_follow_the_policy(run, cases):
    folder = score(run, cases)
    rows = rows_of(folder)
    assert [float(rows["none"][name]) for name in ("dice", "iou", "soft_dice", "soft_iou")] == [1] * 4
    assert [float(rows["miss"][name]) for name in ("dice", "iou", "soft_dice", "soft_iou")] == [0] * 4
    assert (rows["miss"]["fp"], float(rows["miss"]["lesion_fraction"])) == ("16", 0)
    assert json.loads((folder / "summary.json").read_text())["empty_mask_policy"] == EMPTY_MASK_POLICY


def test_the_summary_is_the_mean_of_the_rows(run, cases):
    folder = score(run, cases)
    summary = json.loads((folder / "summary.json").read_text())
    rows = rows_of(folder)
    means = summary.pop("means")
    assert list(means) == [*MEANS, *OUTLINES, "ece", "ece_of_all"]
    # Photos of one size weigh the same in both; errors of opposite sign cancel in the second.
    assert means.pop("ece_of_all") <= means["ece"]
    assert len(summary.pop("masks_sha256")) == len(summary.pop("files_sha256")) == 64
    for name, mean in means.items():
        assert mean == pytest.approx(sum(float(row[name]) for row in rows.values()) / 3, rel=1e-15)
    assert means["dice"] == 0.5
    assert summary == {
        "run": "some-run",
        "split": "test",
        "n": 3,
        "threshold": 0.5,
        "checkpoint": "epoch-0042",
        "model_sha256": "a" * 64,
        "manifest_sha256": "b" * 64,
        "size": "own",
        "probabilities": True,
        "empty_mask_policy": EMPTY_MASK_POLICY,
    }


def test_masks_are_compared_at_their_own_size(run, tmp_path):
    truth = columns_from(0, 16, height=24, width=32)
    case = make_case(tmp_path / "files", "large", truth * 255, truth)
    folder = score(run, [case])
    row = rows_of(folder)["large"]
    assert sum(int(row[name]) for name in ("tp", "fp", "fn", "tn")) == 24 * 32
    assert (row["tp"], row["fp"], row["fn"]) == ("384", "0", "0")
    grey = read_probability(folder / "probabilities" / "large.png")
    assert grey.shape == (24, 32)
    # Between the two columns of the small map at the border, the large one has values in between.
    assert 0.5 < grey[0, 15] < 1
    assert (grey[:, 2] == 1).all()


def test_the_threshold_decides(run, cases):
    row = rows_of(score(run, cases[:1], threshold=0.9))["half"]
    assert (row["tp"], row["fp"]) == ("0", "0")
    assert json.loads((run / "evaluation" / "test" / "summary.json").read_text())["threshold"] == 0.9


def test_labels_are_no_formulas_and_numbers_stay_numbers(run, cases):
    rows = rows_of(score(run, cases))
    assert rows["none"]["diagnosis"] == "'=HYPERLINK(1)"
    assert rows["miss"]["age"] == "-1"


def test_lines_end_in_one_character(run, cases):
    assert b"\r" not in (score(run, cases) / "per_image.csv").read_bytes()


def test_every_bad_case_is_listed_and_the_old_evaluation_stays(run, cases, tmp_path):
    folder = score(run, cases)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (tmp_path / "bad.jpg").write_bytes(b"x")
    bad = [
        Case("unmasked", cases[0].image),
        Case("undecodable", tmp_path / "bad.jpg", cases[0].mask),
        Case("gone", cases[0].image, tmp_path / "gone.png"),
        make_case(tmp_path / "files", "sizes", columns_from(0, 4) * 204, columns_from(0, 4, 9, 9)),
        Case("a/b", cases[0].image, cases[0].mask),
        Case("=x", cases[0].image, cases[0].mask),
        Case("half", cases[0].image, cases[0].mask),
        Case("labelled", cases[0].image, cases[0].mask, labels={"dice": "1"}),
    ]
    with pytest.raises(DataError, match="not every case") as caught:
        score(run, [*cases, *bad])
    listed = "\n".join(caught.value.problems)
    for word in ("unmasked: has no mask", "undecodable: ", "gone: ", "sizes: the mask is 9 x 9, the photo 8 x 8"):
        assert word in listed
    for word in ("'a/b'", "'=x'", "'half': more than one", "label column 'dice'"):
        assert word in listed
    assert len(caught.value.problems) == len(bad)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert names_in(run) == ["evaluation"]


def test_nothing_is_left_of_a_first_evaluation_that_failed(run, cases):
    with pytest.raises(DataError):
        score(run, [*cases, Case("unmasked", cases[0].image)])
    assert names_in(run) == []


def test_a_new_evaluation_takes_the_place_of_the_old(run, cases):
    folder = score(run, cases)
    (folder / "notes.txt").touch()
    score(run, cases[:1])
    assert names_in(folder) == [
        *("calibration.csv", "notes.txt", "per_image.csv", "probabilities", "summary.json", "thresholds.csv")
    ]
    assert names_in(folder / "probabilities") == ["half.png"]
    assert list(rows_of(folder)) == ["half"]


def test_an_evaluation_that_could_not_be_finished_counts_as_missing(run, cases):
    folder = score(run, cases)
    (folder / "per_image.csv").unlink()
    (folder / "per_image.csv").mkdir()
    with pytest.raises(OutputError, match="per_image"):
        score(run, cases[:1])
    assert not (folder / "summary.json").exists()


def test_a_bad_case_is_found_without_predicting_the_others(run, cases):
    class Unused(RedChannel):
        def infer(self, batch):
            raise AssertionError("predicted in vain")

    with pytest.raises(DataError, match="more than one"):
        score(run, [*cases, *cases], predictor=Unused())


def test_a_bug_in_the_predictor_shows_and_leaves_nothing(run, cases):
    class Broken(RedChannel):
        def infer(self, batch):
            raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        score(run, cases, predictor=Broken())
    assert names_in(run) == []


@pytest.mark.parametrize("split", ["", "..", "a/b", "=x"])
def test_a_split_that_is_no_folder_is_refused(run, cases, split):
    with pytest.raises(DataError, match="cannot be a folder's name"):
        score(run, cases, split=split)


def test_no_cases_no_run_no_checkpoint(run, cases, tmp_path):
    with pytest.raises(DataError, match="no case"):
        score(run, [])
    with pytest.raises(OutputError, match="nowhere"):
        score(tmp_path / "nowhere", cases)
    with pytest.raises(RunError, match="no checkpoint"):
        score(run, cases, predictor=None)


def test_progress_counts_the_cases(run, cases):
    calls = []
    score(run, cases, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_mask_drawn_on_the_photo_as_stored_is_compared_as_in_training(run, tmp_path):
    # The camera was turned; the mask's size tells that whoever drew it did not see that.
    truth = columns_from(0, 4, height=8, width=16)
    case = make_case(tmp_path / "files", "turned", truth * 255, truth)
    tags = Image.Exif()
    tags[0x0112] = 6
    with Image.open(case.image) as picture:
        picture.save(case.image, exif=tags)
    row = rows_of(score(run, [case]))["turned"]
    assert (row["tp"], row["fp"], row["fn"]) == ("32", "0", "0")


def test_helpers_give_the_same_files(run, cases, tmp_path, monkeypatch):
    photo = make_case(tmp_path / "files", "photo", columns_from(0, 5) * 180, columns_from(1, 6))
    here = score(run, [*cases, photo])
    kept = {path.name: path.read_bytes() for path in sorted(here.rglob("*")) if path.is_file()}
    made = []

    def ready(*arguments):
        made.append(Crew(*arguments))
        # Only once a helper stands by is anything done there.
        for greeter in made[-1]._greeters:
            greeter.join()
        return made[-1]

    monkeypatch.setattr(scoring, "MANY", 4)
    monkeypatch.setattr(scoring, "Crew", ready)
    monkeypatch.setattr(scoring, "count_cores", lambda: 2)
    monkeypatch.setattr(comparing, "_KNOWN_TRAITS", {})
    there = score(run, [*cases, photo])
    assert {path.name: path.read_bytes() for path in sorted(there.rglob("*")) if path.is_file()} == kept
    assert len(made[0]._helpers) == 1
    assert len(comparing._KNOWN_TRAITS) == 4
    assert made[0]._helpers[0]._process.poll() is not None
    monkeypatch.setattr(scoring, "MANY", 5)
    score(run, [*cases, photo])
    assert made[1]._helpers == []


class ThreeClasses(RedChannel):
    """Red is lesion, blue is border, the rest is skin."""

    labels = Labels(("skin", "border", "lesion"), {"skin": "#000000", "border": "#e0e0c0", "lesion": "#800000"})

    def infer_classes(self, batch):
        red, blue = batch[..., 0] / np.float32(255), batch[..., 2] / np.float32(255)
        return np.stack((1 - red - blue, blue, red), axis=1)


def test_a_run_of_classes_is_compared_on_binary_masks(run, tmp_path):
    case = make_case(tmp_path / "files", "both", columns_from(2, 6) * 255, columns_from(1, 7))
    photo = np.asarray(Image.open(case.image)).copy()
    # Half of a border on each side of the outline: just lesion.
    photo[:, [1, 6], 2] = 255
    photo[:, [0, 7], 2] = 250
    Image.fromarray(photo).save(case.image)
    row = rows_of(score(run, [case], predictor=ThreeClasses()))["both"]
    assert (row["tp"], row["fp"], row["fn"]) == ("48", "0", "0")
    # On the run's own masks, the border is no lesion.
    palette = Image.fromarray(columns_from(2, 6).astype(np.uint8) * 2, "P")
    palette.putpalette([0, 0, 0, 224, 224, 192, 128, 0, 0])
    palette.save(case.mask)
    row = rows_of(score(run, [case], predictor=ThreeClasses()))["both"]
    assert (row["tp"], row["fp"], row["fn"]) == ("32", "0", "0")
