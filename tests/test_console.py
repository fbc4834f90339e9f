import io
from dataclasses import replace

from rich.console import Console

from lesionseg.console import audit_summary, byte_counter, catalogue_table, counter, epoch_line, training_bar
from lesionseg.data.audit import audit
from lesionseg.data.catalogue import Dataset, RemoteFile
from lesionseg.data.findings import found
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
        watcher.on_notice("[out of memory]")
        watcher.on_step(Progress(4, 50, 1, 2, 0.4, 99.6))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert epoch_line("frozen", ROW, 50) in text
    assert "epoch 4/50" in text
    assert "frozen: [out of memory]" in text
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


def shown(thing: object, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(thing)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_byte_counter_has_a_bar_for_each_file() -> None:
    console = Console(file=io.StringIO(), width=120)
    with byte_counter(console) as progress:
        progress("[a].zip", 500_000, 1_000_000)
        progress("b.zip", 10, None)
        progress("[a].zip", 1_000_000, 1_000_000)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[a].zip" in text
    assert "1.0/1.0 MB" in text
    assert "b.zip" in text


def test_the_audit_names_kinds_counts_and_first_cases() -> None:
    findings = [found("mask-hole", [f"c{k}"], "m") for k in range(5)] + [found("same-bytes", ["a", "b[red]\x1b"], "m")]
    text = shown(audit_summary(replace(audit([]), findings=tuple(findings))))
    assert "6 warnings in 0 cases." in text
    assert "Mask with a hole" in text
    assert "c0, c1, c2, ..." in text
    assert "a = b[red]\ufffd" in text
    assert "\x1b" not in text
    assert "Nothing was found in 0 cases." in shown(audit_summary(audit([])))


def test_the_catalogue_tells_sizes_as_far_as_they_are_known() -> None:
    def dataset(name: str, *sizes: int | None) -> Dataset:
        files = tuple(RemoteFile(f"{k}", ("https://example.org",), size=size) for k, size in enumerate(sizes))
        return Dataset(name, "photos", "CC0-1.0", "nobody", "https://example.org", files)

    sets = [dataset("all", 10**9, 10**9), dataset("some", 10**9, None), dataset("tiny", 5, None), dataset("ask")]
    lines = shown(catalogue_table(sets)).splitlines()
    for name, size in {"all": "2.0 GB", "some": "over 1.0 GB", "tiny": "not known", "ask": "on request"}.items():
        (line,) = [line for line in lines if line.startswith(name)]
        assert size in line
        assert "CC0-1.0" in line


def test_what_a_run_is_called_cannot_steer_the_terminal() -> None:
    console = Console(file=io.StringIO(), width=150)
    name = "[red]a\x1b]0;x\x07\nFix: run this"
    with training_bar(console, name, lambda info: None) as watcher, counter(console, name) as progress:
        progress(1, 2)
        watcher.on_notice("less memory\x1b[1m\n")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert r"[red]a\x1b]0;x\x07\nFix: run this: less memory\x1b[1m\n" in text
    assert "\x07" not in text
