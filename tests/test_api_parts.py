from pathlib import Path

import pytest

from lesionseg.api_parts import as_paths, as_words, counting, plain
from lesionseg.config import load_config
from lesionseg.io.paths import as_path


def test_paths_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert as_path("~/photos") == as_path(Path("~/photos")) == Path("/home/me/photos")
    assert as_path("a/~b") == Path("a/~b")
    assert as_path("~no-such-user-here/photos") == Path("~no-such-user-here/photos")
    assert as_paths(one="a", other=None) == {"one": Path("a"), "other": None}


@pytest.mark.parametrize("folder", ["m.csv", "my: photos #1/m.csv", 'a, [b]/{c}\'s "d"/m.csv', "ümlaut/m.csv"])
def test_overrides_by_key_hold_any_path(folder: str) -> None:
    config = load_config(None, as_words({"data.manifest": Path(folder), "optim.decoder_lr": 1e-5, "loop.epochs": 3}))
    assert (config.data.manifest, config.optim.decoder_lr, config.loop.epochs) == (folder, 1e-5, 3)
    sizes = load_config(
        None, as_words({"data.manifest": "m", "data.image_size": (64, 96), "loop.stop_at": {"val_dice": 0.9}})
    )
    assert (sizes.data.image_size, dict(sizes.loop.stop_at or {})) == ((64, 96), {"val_dice": 0.9})


def test_words_stay_words() -> None:
    assert as_words(("loop.epochs=3", "optim.loss=dice")) == ["loop.epochs=3", "optim.loss=dice"]
    assert as_words("loop.epochs=3") == ["loop.epochs=3"]


def test_settings_with_paths() -> None:
    tree = {"data": {"manifest": Path("a/m.csv"), "image_size": (64, 96)}, "loop": {"epochs": 2}}
    assert plain(tree) == {"data": {"manifest": str(Path("a/m.csv")), "image_size": [64, 96]}, "loop": {"epochs": 2}}


def test_progress_is_silent_told_or_shown(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    for silent in (None, False):
        with counting(silent, "work") as count:
            assert count is None
    with counting(lambda *numbers: told.append(numbers), "work") as count:
        assert count is not None
        count(1, 2)
    assert told == [(1, 2)]
    assert capsys.readouterr().out == ""
    with counting(True, "work") as count:
        assert count is not None
        count(2, 2)
    assert "2/2" in capsys.readouterr().out
