from lesionseg.config import LoopConfig
from lesionseg.training.callbacks import best_epoch, early_stopping, is_better, loop_callbacks, stop_at


def history(*dice: float) -> list[dict[str, float]]:
    return [{"epoch": i, "val_dice": value, "val_loss": 1 - value} for i, value in enumerate(dice, start=1)]


def test_losses_are_better_when_lower() -> None:
    assert is_better("val_loss", 0.1, 0.2)
    assert is_better("val_dice", 0.2, 0.1)
    assert not is_better("val_dice", 0.1, 0.1)


def test_best_epoch_is_the_first_of_equals() -> None:
    rows = history(0.1, 0.5, 0.3, 0.5)
    assert best_epoch(rows, "val_dice") == best_epoch(rows, "val_loss") == 2


def test_stop_at_target() -> None:
    check = stop_at({"val_dice": 0.9})
    assert check(history(0.89)) is None
    assert check(history(0.5, 0.9)) == "val_dice reached 0.9000 (target 0.9)"
    assert stop_at({"val_loss": 0.2})(history(0.85)) is not None


def test_early_stopping_waits() -> None:
    check = early_stopping("val_dice", 2)
    assert check(history(0.5, 0.4)) is None
    assert check(history(0.5, 0.4, 0.5)) == "val_dice has not improved for 2 epochs (best: epoch 1)"
    assert check(history(0.5, 0.4, 0.6)) is None


def test_config_decides_which() -> None:
    assert loop_callbacks(LoopConfig()) == []
    assert len(loop_callbacks(LoopConfig(stop_at={"val_dice": 0.9}, patience=3))) == 2
