"""Run folders: read as they were written, refused with every fault named."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from lesionseg.data.images import encode_probability_png
from lesionseg.errors import ComparisonError, RunError
from lesionseg.evaluation.columns import SCORES
from lesionseg.evaluation.comparable import check_comparable
from lesionseg.evaluation.metrics import EMPTY_MASK_POLICY, confusion, score_row, soft_dice, soft_iou
from lesionseg.evaluation.reading import shorten
from lesionseg.evaluation.runs import (
    HISTORY,
    epoch_table,
    groups_of,
    load_info,
    load_run,
    per_image_table,
    scores_of,
    shared_groups,
)

IDS = ("0000012", "NA", "ISIC_0000003", "1e5")


@pytest.fixture
def make_run(tmp_path):
    """Writes a run folder: ``make_run("frozen", ids, seed=...)``."""

    def make(name, ids=IDS, *, seed=0, split="test", groups=None):
        folder = tmp_path / name
        place = folder / "evaluation" / split
        (place / "probabilities").mkdir(parents=True)
        rows = []
        for index, case_id in enumerate(ids):
            truth = np.zeros((6, 8), bool)
            truth[1:5, 2 : 4 + index % 4] = True
            p = np.random.default_rng((seed, index)).random((6, 8)).astype(np.float32)
            (place / "probabilities" / f"{case_id}.png").write_bytes(encode_probability_png(p))
            row = score_row(confusion(case_id, p >= 0.5, truth))
            row |= {"soft_dice": soft_dice(p, truth), "soft_iou": soft_iou(p, truth), "lesion_fraction": truth.mean()}
            rows.append(row | {"diagnosis": "NA", "group": groups[index] if groups else case_id})
        table = pd.DataFrame(rows)
        table.to_csv(place / "per_image.csv", index=False)
        summary = {"run": name, "split": split, "n": len(rows), "threshold": 0.5, "checkpoint": "best"}
        summary |= {"model_sha256": "m" * 64, "manifest_sha256": "f" * 64, "empty_mask_policy": EMPTY_MASK_POLICY}
        summary["means"] = {score: table[score].mean() for score in SCORES}
        (place / "summary.json").write_text(json.dumps(summary))
        history = pd.DataFrame({column: [0.5, 0.25] for column in HISTORY}).assign(epoch=[1, 2])
        history.to_csv(folder / "history.csv", index=False)
        parts = dict.fromkeys(("encoder", "decoder", "total", "trainable", "non_trainable"), 7)
        info = {"name": name, "created": "2025-01-01T00:00:00+00:00", "status": "finished", "versions": {}}
        info |= {"hardware": {}, "parameters": parts, "encoder_weights": {"source": "imagenet", "sha256": "e" * 64}}
        info["manifest"] = {"name": "toy", "sha256": "f" * 64, "train": 3, "val": 1}
        info["config"] = {"data": {"manifest": "toy.csv", "root": None}}
        info["config"] |= {"optim": {"encoder_lr": 0, "decoder_lr": 0.01, "loss": "bce"}, "loop": {"epochs": 2}}
        (folder / "run.json").write_text(json.dumps(info))
        return folder

    return make


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_csv(path, change):
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(frame).to_csv(path, index=False)


def test_reads_what_was_written(make_run):
    result = load_run(make_run("frozen"), "test")
    assert result.name == "frozen"
    assert result.per_image["case_id"].tolist() == sorted(IDS)
    assert result.per_image["diagnosis"].tolist() == ["NA"] * 4
    assert result.history["epoch"].tolist() == [1, 2]
    assert result.info["parameters"]["total"] == 7
    assert result.summary["n"] == 4
    assert (result.probabilities / "NA.png").is_file()
    written = pd.read_csv(result.folder / "evaluation/test/per_image.csv", keep_default_na=False, dtype=str)
    by_id = dict(zip(written["case_id"], written["dice"].astype(float), strict=True))
    assert result.per_image["dice"].tolist() == [by_id[case_id] for case_id in sorted(IDS)]


def test_numbers_as_ids_keep_their_zeros(make_run):
    folder = make_run("frozen", ("007", "0012"))
    edit_csv(folder / "evaluation/test/per_image.csv", lambda frame: frame.assign(patient="0042"))
    result = load_run(folder, "test")
    assert result.per_image["case_id"].tolist() == ["0012", "007"]
    assert result.per_image["patient"].tolist() == ["0042"] * 2


def test_scores_are_in_the_order_of_the_ids(make_run):
    result = load_run(make_run("frozen"), "test")
    shuffled = load_run(make_run("again", IDS[::-1]), "test")
    assert scores_of([result], "dice")["frozen"].tolist() == result.per_image["dice"].tolist()
    assert shuffled.per_image["case_id"].tolist() == result.per_image["case_id"].tolist()


def test_groups(make_run):
    assert groups_of(load_run(make_run("alone"), "test")) is None
    together = load_run(make_run("together", groups=["p2", "p1", "p1", ""]), "test")
    # In the order of the ids: 0000012, 1e5 (alone, for it names no group), ISIC_0000003, NA.
    assert groups_of(together) == ["p2", "1e5", "p1", "p1"]


def test_groups_of_any_run_are_those_of_all(make_run):
    alone = load_run(make_run("alone"), "test")
    together = load_run(make_run("together", groups=["p2", "p1", "p1", ""]), "test")
    assert shared_groups([alone]) is None
    assert shared_groups([alone, together]) == shared_groups([together, alone]) == groups_of(together)


def test_classes_of_another_evaluation_are_damage(make_run):
    folder = make_run("a")
    summary = json.loads((folder / "evaluation/test/summary.json").read_text())
    classes = {"names": ["skin", "lesion"], "size": [64, 64], "iou": {}, "pixel_accuracy": 0.9, "mean_iou": 0.8}
    classes |= {"model_sha256": summary["model_sha256"], "n": summary["n"]}
    place = folder / "evaluation/test/classes.json"
    place.write_text(json.dumps(classes))
    assert load_run(folder, "test").classes["mean_iou"] == 0.8
    for other in ({"n": 999}, {"model_sha256": "0" * 64}):
        place.write_text(json.dumps(classes | other))
        with pytest.raises(RunError, match="cannot be read") as caught:
            load_run(folder, "test")
        assert "of another model or other photos" in caught.value.problems[0]


def test_tables_of_several_runs(make_run):
    results = [load_run(make_run(name, seed=i), "test") for i, name in enumerate(["b", "a"])]
    epochs, images = epoch_table(results), per_image_table(results)
    assert epochs[["run", "epoch"]].to_numpy().tolist() == [["b", 1], ["b", 2], ["a", 1], ["a", 2]]
    assert list(images.columns[:2]) == ["run", "case_id"]
    assert images["run"].tolist() == ["b"] * 4 + ["a"] * 4
    assert images.loc[images["run"] == "a", "dice"].tolist() == results[1].per_image["dice"].tolist()


def test_a_label_called_run_is_kept(make_run):
    folder = make_run("frozen")
    edit_csv(folder / "evaluation/test/per_image.csv", lambda frame: frame.assign(run="camera 2"))
    images = per_image_table([load_run(folder, "test")])
    assert set(images["run"]) == {"frozen"}
    assert set(images["label_run"]) == {"camera 2"}


def test_no_folder(tmp_path):
    with pytest.raises(RunError, match=r"nowhere is not a run folder\n.*lesionseg train"):
        load_run(tmp_path / "nowhere", "test")


def test_not_evaluated_yet(make_run):
    folder = make_run("frozen")
    with pytest.raises(RunError) as caught:
        load_run(folder, "val")
    assert len(caught.value.problems) == 2
    assert caught.value.fix == f"score it with 'lesionseg evaluate --model {folder} --split val'"


def test_info_of_a_run_that_was_not_scored(make_run):
    folder = make_run("frozen")
    shutil.rmtree(folder / "evaluation")
    (folder / "history.csv").unlink()
    assert load_info(folder)["config"]["data"]["manifest"] == "toy.csv"
    edit_json(folder / "run.json", manifest=None)
    with pytest.raises(RunError, match=r"run\.json: manifest: should be a JSON object \(got None\)\n.*train"):
        load_info(folder)
    with pytest.raises(RunError, match="is not a run folder"):
        load_info(folder / "deeper")


def test_every_missing_file_is_named(make_run):
    folder = make_run("frozen")
    for name in ("run.json", "history.csv", "evaluation/test/summary.json"):
        (folder / name).unlink()
    with pytest.raises(RunError) as caught:
        load_run(folder, "test")
    assert [name in str(caught.value) for name in ("run.json", "history.csv", "summary.json", "per_image.csv")] == [
        True,
        True,
        True,
        False,
    ]
    assert "lesionseg train" in caught.value.fix
    assert "lesionseg evaluate" in caught.value.fix


DAMAGE = {
    "json cut": ("run.json", lambda p: p.write_text('{"name": "fro'), "not valid JSON"),
    "json nested too deep": ("run.json", lambda p: p.write_text("[" * 100_000), "nested more than 50"),
    "json list": ("run.json", lambda p: p.write_text("[1]"), "the whole: should be a JSON object"),
    "json key": (
        "run.json",
        lambda p: edit_json(p, config={"optim": {"loss": "bce"}}),
        "config.optim.encoder_lr: missing",
    ),
    "json type": ("run.json", lambda p: edit_json(p, status=3), "status: input should be a valid string (got 3)"),
    "json nan": ("evaluation/test/summary.json", lambda p: edit_json(p, threshold=float("nan")), "threshold"),
    "history empty": ("history.csv", lambda p: p.write_text(""), "not a valid CSV"),
    "history header only": ("history.csv", lambda p: p.write_text(",".join(HISTORY) + "\n"), "has no rows"),
    "history column": ("history.csv", lambda p: edit_csv(p, lambda f: f.drop(columns="val_iou")), "columns val_iou"),
    "history word": ("history.csv", lambda p: edit_csv(p, lambda f: f.assign(val_loss="nan")), "2: row 2, row 3"),
    "history gap": ("history.csv", lambda p: edit_csv(p, lambda f: f.assign(epoch=[1, 3])), "do not count 1, 2, 3"),
    "long row": ("history.csv", lambda p: p.write_text(p.read_text() + "1," * 30 + "\n"), "not a valid CSV"),
    "all rows long": (
        "history.csv",
        lambda p: p.write_text(p.read_text().replace("\n", ",1\n").replace(",1", "", 1)),
        "not a valid CSV",
    ),
    "bytes": ("evaluation/test/per_image.csv", lambda p: p.write_bytes(b"case_id\n\xff\xfe\n"), "not UTF-8 text"),
    "a folder": ("history.csv", lambda p: (p.unlink(), p.mkdir()), "history.csv"),
    "short row": ("evaluation/test/per_image.csv", lambda p: p.write_text(p.read_text() + "x,1\n"), "not a finite"),
    "twice": (
        "evaluation/test/per_image.csv",
        lambda p: edit_csv(p, lambda f: f.assign(case_id=["NA", "NA", "1e5", "0000012"])),
        "the same case in several rows: 1: NA",
    ),
    "range": ("evaluation/test/per_image.csv", lambda p: edit_csv(p, lambda f: f.assign(dice="1.5")), "[0, 1] in dice"),
    "stale rows": ("evaluation/test/per_image.csv", lambda p: edit_csv(p, lambda f: f[:3]), "is of 4 cases"),
    "stale means": ("evaluation/test/summary.json", lambda p: edit_json(p, means={"dice": 0.1}), "dice, iou"),
    "other split": ("evaluation/test/summary.json", lambda p: edit_json(p, split="val"), "of the split 'val'"),
    "map gone": ("evaluation/test/probabilities/NA.png", lambda p: p.unlink(), "no map for 1: NA"),
    "id leads out": (
        "evaluation/test/per_image.csv",
        lambda p: edit_csv(p, lambda f: f.assign(case_id=["../../run", "NA", "1e5", ""])),
        "cannot be file names: 2: '../../run', ''",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(make_run, case):
    name, harm, message = DAMAGE[case]
    folder = make_run("frozen")
    harm(folder / name)
    with pytest.raises(RunError) as caught:
        load_run(folder, "test")
    assert any(message in problem for problem in caught.value.problems)
    assert ("evaluate" if "evaluation" in name else "train") in caught.value.fix


@pytest.mark.parametrize("name", [".", "run.json", "evaluation/test", "evaluation/test/summary.json"])
def test_files_that_the_user_may_not_read_are_named_and_nothing_is_to_be_made_anew(make_run, monkeypatch, name):
    folder = make_run("a")
    # root may read everything, whatever the mode.
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and (path != folder / name or not mode))
    with pytest.raises(RunError, match="permission denied") as caught:
        load_run(folder, "test")
    assert caught.value.problems == (str(folder / name),)
    assert "permission" in caught.value.fix
    assert "lesionseg" not in caught.value.fix


def test_shorten():
    assert shorten(["A", "B"]) == "2: A, B"
    assert shorten("ABCDEFG") == "7: A, B, C, D, E and 2 more"


def test_same_cases_are_comparable(make_run):
    results = [load_run(make_run(name, seed=i), "test") for i, name in enumerate("abc")]
    check_comparable(results)
    check_comparable(results[:1])


def test_no_runs_and_names_twice(make_run):
    with pytest.raises(ComparisonError, match="no runs"):
        check_comparable([])
    first, second = load_run(make_run("a"), "test"), make_run("b")
    edit_json(second / "run.json", name="a")
    with pytest.raises(ComparisonError) as caught:
        check_comparable([first, load_run(second, "test")])
    assert caught.value.problems == (f"a: {first.folder}", f"a: {second}")


def test_different_cases_are_listed_for_every_run(make_run):
    few = load_run(make_run("few", ("A", "B")), "test")
    many = load_run(make_run("many", ("A", *"CDEFGHI")), "test")
    with pytest.raises(ComparisonError) as caught:
        check_comparable([few, many])
    assert caught.value.problems == (
        "few: lacks cases that others have, 7: C, D, E, F, G and 2 more",
        "many: lacks cases that others have, 1: B",
    )
    assert "few, many" in caught.value.message


@pytest.mark.parametrize(("key", "value"), [("threshold", 0.4), ("manifest_sha256", "0"), ("empty_mask_policy", "no")])
def test_different_ways_of_scoring_are_refused(make_run, key, value):
    folders = [make_run("a"), make_run("b")]
    edit_json(folders[1] / "evaluation/test/summary.json", **{key: value})
    with pytest.raises(ComparisonError) as caught:
        check_comparable([load_run(folder, "test") for folder in folders])
    assert len(caught.value.problems) == 2
    assert caught.value.problems[1] == f"b: its {key} is {value}"


def test_different_splits_are_refused(make_run):
    with pytest.raises(ComparisonError, match="b: its split is val"):
        check_comparable([load_run(make_run("a"), "test"), load_run(make_run("b", split="val"), "val")])


def test_different_masks_are_refused(make_run):
    first, second = make_run("a"), make_run("b")

    def one_pixel_more(frame):
        frame.loc[frame["case_id"] == "NA", "fn"] = str(int(frame.loc[frame["case_id"] == "NA", "fn"].iloc[0]) + 1)
        return frame

    edit_csv(second / "evaluation/test/per_image.csv", one_pixel_more)
    with pytest.raises(ComparisonError, match="b: its true masks differ from those of a, 1: NA"):
        check_comparable([load_run(first, "test"), load_run(second, "test")])
