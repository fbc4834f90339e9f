"""The README's Python, run as it stands, and its numbers of the models that ship."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lesionseg
from lesionseg.shipped_models import DEFAULT, describe

README = Path(__file__).parents[1] / "README.md"
# The shipped settings, made small: no download, and seconds in place of hours.
SMALL = {"model.encoder_weights": "random", "data.image_size": 32, "loop.epochs": 1, "loop.device": "cpu"}


@pytest.mark.long
def test_its_python_runs(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    Path("test").mkdir()
    places = (
        ("photos", "train_images"),
        ("masks", "train_masks"),
        ("test/photos", "test_images"),
        ("test/masks", "test_masks"),
    )
    for name, place in places:
        Path(name).symlink_to(getattr(tiny.folders, place))
    Path("photo.jpg").symlink_to(sorted(tiny.folders.test_images.glob("*.jpg"))[0])
    train = lesionseg.train

    def small(config: str, run: str, *, overrides: dict[str, object], progress: bool) -> object:
        return train(config, run, overrides={**overrides, **SMALL}, progress=progress)

    monkeypatch.setattr(lesionseg, "train", small)
    names: dict[str, object] = {}
    exec(compile(block, str(README), "exec"), names)  # noqa: S102 - that is what a reader does
    mask, picture = np.asarray(names["mask"]), np.asarray(names["picture"])
    assert (mask.dtype, mask.shape, picture.dtype, picture.shape) == (np.bool_, (72, 96), np.uint8, (72, 96, 3))
    assert [result.name for result in names["results"]] == ["frozen", "finetuned"]  # type: ignore[attr-defined]
    for made in ("mine.csv", "audit/audit.html", "report/report.html"):
        assert Path(made).is_file(), made


@pytest.mark.parametrize("facts", describe(), ids=lambda facts: str(facts["name"]))
def test_its_numbers_are_those_of_the_models(facts: dict[str, Any]) -> None:
    rows = README.read_text(encoding="utf-8").splitlines()
    row = next(line for line in rows if line.startswith(f"| `{facts['name']}`"))
    size, scores = facts["files"]["model-int8.onnx"]["bytes"], facts["scores"]["means"]["int8"]
    written = [float(number) for number in re.findall(r"\d+\.\d+", row)]
    cost = [facts["cost"]["parameters"] / 1e6, facts["cost"]["macs"] / 1e9, size / 1e6]
    assert written[:3] == pytest.approx(cost, abs=0.051)
    assert written[3:] == pytest.approx([*scores["dice"], *scores["iou"]], abs=0.00056)
    if facts["name"] == DEFAULT:
        best = facts["measured"]["options"][-1]
        told = re.findall(r"0\.\d+", rows[rows.index(row) + 1])
        assert told == [f"{best['dice']:.3f}", f"{best['jaccard']:.3f}"]
