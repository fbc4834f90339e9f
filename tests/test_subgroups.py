"""Subgroups and largest differences of small made-up tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesionseg.evaluation.columns import FURTHER
from lesionseg.evaluation.drawing import PALETTE
from lesionseg.evaluation.plots import calibration_curves, dice_violins, subgroup_forest
from lesionseg.evaluation.runs import RunResult
from lesionseg.evaluation.statistics import bootstrap_mean, compare_all, paired_difference
from lesionseg.evaluation.subgroups import FEW, largest_differences, subgroup_table, subgroups_of

N = 60
RNG = np.random.default_rng(2)
DICE = {"a": RNG.uniform(0.6, 1, N), "b": RNG.uniform(0.5, 1, N)}


def make(name: str, **columns) -> RunResult:
    frame = pd.DataFrame({"case_id": [f"c{i:02d}" for i in range(N)], "dice": DICE[name]})
    frame = frame.assign(**dict.fromkeys(FURTHER, np.nan)).assign(lesion_fraction=np.linspace(0, 0.59, N), **columns)
    return RunResult(name, Path(name), {}, pd.DataFrame(), frame, {}, Path())


def dice_pairs(*names: str):
    return compare_all({name: DICE[name] for name in names}, draws=50)


def test_quarters_of_the_lesion_size() -> None:
    found = subgroups_of([make("a")])
    assert list(found) == ["lesion size"]
    quarters = found["lesion size"]
    assert [len(members) for members in quarters.values()] == [15] * 4
    assert [name.partition(" ")[0] for name in quarters] == ["smallest", "second", "third", "largest"]
    assert next(iter(quarters)) == "smallest quarter (0.0% to 14.8%)"
    assert sorted(i for members in quarters.values() for i in members) == list(range(N))


def test_labels_and_traits() -> None:
    labels = {"diagnosis": ["benign"] * 45 + ["malignant"] * 10 + [""] * 5, "patient": [f"p{i}" for i in range(N)]}
    traits = {"ita": [60.0] * 20 + [20.0] * 39 + [np.nan], "hair": [1.0, 0.0] * 30, "ruler": [0.0] * N}
    traits["aspect"] = [4 / 3] * 25 + [1.5] * 25 + [1.1] * 10
    found = subgroups_of([make("a", **labels, **traits)])
    # Sixty patients are no subgroups, and a ruler that is nowhere divides nothing.
    assert list(found) == ["diagnosis", "lesion size", "skin tone (ITA)", "hair", "photo format"]
    sizes = {attribute: {name: len(ids) for name, ids in members.items()} for attribute, members in found.items()}
    assert sizes["diagnosis"] == {"benign": 45, "malignant": 10}
    assert sizes["skin tone (ITA)"] == {"very light": 20, "tan": 39}
    assert list(sizes["skin tone (ITA)"]) == ["very light", "tan"]
    assert sizes["hair"] == {"hair": 30, "no hair": 30}
    assert sizes["photo format"] == {"1.34 : 1": 25, "1.50 : 1": 25, "other": 10}


def test_traits_come_from_the_run_that_knows_them() -> None:
    blind, seeing = make("a"), make("b", ita=60.0, hair=[1.0, 0.0] * 30, ruler=0.0, aspect=1.5)
    assert "hair" in subgroups_of([blind, seeing])


def test_the_table_is_that_of_the_parts() -> None:
    runs = [make(name, diagnosis=["benign"] * 45 + ["malignant"] * 15) for name in "ab"]
    table = subgroup_table(runs, dice_pairs("a", "b"))
    part = table[table["subgroup"] == "malignant"]
    assert part["kind"].tolist() == ["mean", "mean", "difference"]
    assert part["n"].tolist() == [15] * 3
    assert part["few"].all() == (FEW > 15)
    assert not table.loc[table["subgroup"] == "benign", "few"].any()
    first, last = part.iloc[0], part.iloc[2]
    assert (first["dice"], first["low"], first["high"]) == bootstrap_mean(DICE["a"][45:])
    d = paired_difference(DICE["a"][45:], DICE["b"][45:])
    assert (last["run"], last["dice"], last["low"]) == ("a − b", d.mean_difference, d.low)


def test_patients_are_drawn_whole_within_a_subgroup() -> None:
    groups = [f"p{i // 15}" for i in range(N)]
    table = subgroup_table([make("a", group=groups, site=["x"] * 30 + ["y"] * 30)], [])
    row = table[(table["attribute"] == "site") & (table["subgroup"] == "x")].iloc[0]
    assert (row["dice"], row["low"], row["high"]) == bootstrap_mean(DICE["a"][:30], groups=groups[:30])


def test_largest_differences() -> None:
    table = largest_differences([make("a"), make("b")], dice_pairs("a", "b"), shown=5)
    gaps = DICE["a"] - DICE["b"]
    assert table["difference"].abs().tolist() == pytest.approx(sorted(np.abs(gaps))[::-1][:5])
    assert table["case_id"].iloc[0] == f"c{np.abs(gaps).argmax():02d}"
    assert (table["dice_a"] - table["dice_b"]).tolist() == pytest.approx(table["difference"].tolist())
    assert largest_differences([make("a")], []).empty


def colours(png: bytes) -> set[str]:
    import io

    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return {f"#{r:02X}{g:02X}{b:02X}" for r, g, b in np.unique(pixels, axis=0)}


@pytest.mark.long
def test_figures_show_every_run() -> None:
    runs = [make(name) for name in "ab"]
    curve = pd.DataFrame({"threshold": [0.1, 0.5, 0.9], "dice": [0.6, 0.8, 0.5], "iou": [0.5, 0.7, 0.4]})
    bins = pd.DataFrame({"mean_probability": [0.1, 0.9], "lesion_share": [0.2, 0.8]})
    known = RunResult("b", Path(), {}, pd.DataFrame(), runs[1].per_image, {}, Path(), None, bins, curve)
    runs[0] = replace(runs[0], summary={"threshold": 0.5})
    violins, forest = dice_violins(runs), subgroup_forest(subgroup_table(runs, []))
    for png in (violins, forest):
        assert set(PALETTE[:2]) <= colours(png)
    # A run of bare masks has no curve, and the other keeps its colour.
    found = colours(calibration_curves([runs[0], known]))
    assert (PALETTE[0] in found, PALETTE[1] in found) == (False, True)
