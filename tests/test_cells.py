import sys
from types import SimpleNamespace
from typing import Any

import pytest

from lesionseg import cells
from lesionseg.console import counter, training_bar
from lesionseg.training.watch import Progress


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook would show, draw by draw; the clock stands still but for a second at each look."""
    texts: list[str] = []

    def display(data: dict[str, str], **options: Any) -> SimpleNamespace:
        assert options == {"raw": True, "display_id": True}
        texts.append(data["text/plain"])
        return SimpleNamespace(update=lambda data, raw: texts.append(data["text/plain"]))

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    ticks = iter(range(1_000_000))
    monkeypatch.setattr(cells, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    return texts


def test_a_count_is_drawn_in_place_to_its_end(shown: list[str]) -> None:
    with counter(cells.cell_console(), "predicting") as count:
        for done in range(1, 4):
            count(done, 3)
    assert "1/3" in shown[0]
    assert "3/3" in shown[-1]
    assert all("\n" not in text for text in shown)
    assert "\x1b" not in "".join(shown)


def test_it_is_not_drawn_more_often_than_an_eye_follows(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "time", SimpleNamespace(monotonic=lambda: 100.0))
    with counter(cells.cell_console(), "predicting") as count:
        for done in range(1, 1001):
            count(done, 1000)
    assert len(shown) <= 2
    assert "1000/1000" in shown[-1]


def test_epochs_stay_above_the_bar(shown: list[str]) -> None:
    row = {"epoch": 1, "train_loss": 0.5, "val_loss": 0.25, "val_dice": 0.9, "val_iou": 0.8, "images_per_second": 9.6}
    with training_bar(cells.cell_console(), "frozen", lambda info: None) as watcher:
        watcher.on_decode(1, 10)
        watcher.on_step(Progress(1, 2, 1, 2, 0.5, 9.6))
        watcher.on_epoch(row)
        watcher.on_step(Progress(2, 2, 1, 2, 0.4, 9.6))
    first, second = shown[-1].split("\n")
    assert first.startswith("frozen: epoch 1/2  train loss 0.5000")
    assert second.startswith("frozen: epoch 2/2 ")
    assert len(second) <= 110


def test_nothing_is_shown_where_nothing_happens(shown: list[str]) -> None:
    with counter(cells.cell_console(), "predicting"):
        pass
    assert shown == []
