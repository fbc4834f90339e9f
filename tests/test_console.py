import io

from rich.console import Console

from lesionseg.console import counter, epoch_line, training_bar
from lesionseg.training.watch import Progress

ROW = {"epoch": 3, "train_loss": 0.5, "val_loss": 0.25, "val_dice": 0.9, "val_iou": 0.8, "images_per_second": 99.6}


def test_epoch_line() -> None:
    assert epoch_line("frozen", ROW, 50) == (
        "frozen: epoch  3/50  train loss 0.5000  val loss 0.2500  val Dice 0.9000  val IoU 0.8000  100 images/s"
    )


def test_training_bar_shows_the_numbers_and_keeps_the_epochs() -> None:
    console = Console(file=io.StringIO(), width=150)
    told: list[dict[str, object]] = []
    with training_bar(console, "frozen", told.append) as watcher:
        watcher.on_start({"name": "frozen"})
        watcher.on_decode(5, 10)
        watcher.on_step(Progress(3, 50, 1, 2, 0.5, 99.6))
        watcher.on_epoch(ROW)
        watcher.on_step(Progress(4, 50, 1, 2, 0.4, 99.6))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert epoch_line("frozen", ROW, 50) in text
    assert "epoch 4/50" in text
    assert "loss 0.400  Dice 0.900  100 images/s" in text
    assert told == [{"name": "frozen"}]


def test_counter_counts_to_the_end() -> None:
    console = Console(file=io.StringIO(), width=100)
    with counter(console, "predicting") as progress:
        progress(3, 4)
        progress(4, 4)
    assert "4/4" in console.file.getvalue()  # type: ignore[attr-defined]


def test_nothing_is_shown_before_there_is_something_to_show() -> None:
    console = Console(file=io.StringIO(), width=100)
    with counter(console, "predicting"):
        pass
    assert "predicting" not in console.file.getvalue()  # type: ignore[attr-defined]
