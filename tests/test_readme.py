"""The README's Python, run as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

import lesionseg

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
    Path("photo.jpg").symlink_to(sorted(tiny.folders.test_images.iterdir())[0])
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
