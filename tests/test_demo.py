import io
from pathlib import Path

import pytest
from rich.console import Console

from lesionseg import demo, shipped_models
from lesionseg.errors import OutputError


@pytest.mark.long
def test_demo_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TRAIN", 12)
    monkeypatch.setattr(demo, "TEST", 3)
    monkeypatch.setattr(demo, "EXTRA", ("loop.epochs=1", "data.image_size=64"))
    monkeypatch.setattr(shipped_models, "_FOLDER", tmp_path)
    out = Console(file=io.StringIO(), width=120)
    for _ in range(2):
        demo.run_demo(tmp_path / "demo", out)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "starts at random" in text
    assert "Not a medical device" in text
    for made in ("manifest.csv", "report/report.html", "runs/frozen/run.json", "runs/finetuned/run.json"):
        assert (tmp_path / "demo" / made).is_file(), made
    assert len(list((tmp_path / "demo/predictions").glob("*_segmentation.png"))) == 3
    assert len(list((tmp_path / "demo/predictions").glob("*_overlay.jpg"))) == 3


def test_it_starts_from_a_model_that_ships(shipped: Path) -> None:
    rates, words, said = demo._start()
    assert rates.keys() == demo.RATES.keys()
    assert words == ["model.encoder_weights=lesionseg-base", "model.name=unet"]
    assert "encoder is that of lesionseg-base" in said


def test_other_files_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not from an earlier demo"):
        demo.run_demo(tmp_path, Console(file=io.StringIO()))
    assert (tmp_path / "thesis.txt").read_text() == "mine"
