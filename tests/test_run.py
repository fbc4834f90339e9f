import json
import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from lesionseg.errors import ConfigError, RunError
from lesionseg.training import run
from lesionseg.training.checkpoint import latest_checkpoint, load_checkpoint
from lesionseg.training.run import run_training
from lesionseg.training.watch import Progress, Watcher


def test_a_run_folder_tells_how_it_was_made(tiny, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = run_training(
        tiny.config("optim.encoder_lr=0"), tmp_path / "frozen", watcher=Watcher(on_decode=lambda *n: seen.append(n))
    )
    assert result.status == "finished"
    assert seen[-1] == (10, 10)
    info = json.loads((tmp_path / "frozen" / "run.json").read_text())
    assert info["name"] == "frozen"
    assert info["status"] == "finished"
    assert info["parameters"]["trainable"] == 1_594_314
    assert info["manifest"] | {"sha256": ""} == {"name": "tiny", "sha256": "", "train": 7, "val": 3}
    assert len(info["manifest"]["sha256"]) == 64
    assert info["encoder_weights"] == {"source": "random", "sha256": ""}
    assert info["config"]["optim"]["encoder_lr"] == 0
    assert info["versions"]["torch"] == torch.__version__.split("+")[0]
    assert info["seeds"] == {"run": 0}
    assert "Not a medical device" in info["notice"]


def test_same_config_same_weights(tiny, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_training(tiny.config("loop.epochs=1"), tmp_path / name)
    a, b = (load_checkpoint(latest_checkpoint(tmp_path / name)).model_state for name in ("a", "b"))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.long
def test_test_split_is_never_opened(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lesionseg.data import loader

    opened: list[Path] = []
    real = loader.read_bytes
    monkeypatch.setattr(loader, "read_bytes", lambda path: opened.append(path) or real(path))
    run_training(tiny.config("loop.epochs=1"), tmp_path / "run")
    assert len(opened) == 10
    assert not [path for path in opened if path.parent == tiny.folders.test_images]


def test_a_manifests_own_validation_split_is_used(tiny, tmp_path: Path) -> None:
    text = tiny.manifest.read_text().replace(",test,", ",val,")
    (tmp_path / "own.csv").write_text(text)
    root = tiny.manifest.parent / "photos"
    run_training(
        tiny.config(f"data.manifest={tmp_path / 'own.csv'}", f"data.root={root}", "loop.epochs=1"), tmp_path / "run"
    )
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (info["manifest"]["train"], info["manifest"]["val"]) == (10, 4)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_resume_ends_as_an_unbroken_run(tiny, tmp_path: Path, number: signal.Signals) -> None:
    run_training(tiny.config(), tmp_path / "whole")
    before = signal.getsignal(number)

    def kill(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (2, 1):
            os.kill(os.getpid(), number)

    broken = run_training(tiny.config(), tmp_path / "broken", watcher=Watcher(on_step=kill))
    assert broken.status == "interrupted"
    assert signal.getsignal(number) == before
    assert json.loads((tmp_path / "broken" / "run.json").read_text())["status"] == "interrupted"
    assert run_training(None, tmp_path / "broken", resume=True).status == "finished"
    a, b = (load_checkpoint(latest_checkpoint(tmp_path / name)).model_state for name in ("whole", "broken"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_trains_outside_the_main_thread(tiny, tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(
        target=lambda: results.append(run_training(tiny.config("loop.epochs=1"), tmp_path / "run"))
    )
    thread.start()
    thread.join()
    assert [result.status for result in results] == ["finished"]


@pytest.mark.long
def test_more_epochs_may_follow_but_not_another_experiment(tiny, tmp_path: Path) -> None:
    run_training(tiny.config("loop.epochs=1"), tmp_path / "run")
    with pytest.raises(ConfigError, match="cannot change on resuming") as caught:
        run_training(None, tmp_path / "run", resume=True, overrides=["loop.seed=1", "optim.loss=dice", "loop.epochs=3"])
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["optim.loss", "loop.seed"]
    result = run_training(None, tmp_path / "run", resume=True, overrides=["loop.epochs=2"])
    assert [row["epoch"] for row in result.history] == [1, 2]


def test_an_existing_run_is_not_overwritten(tiny, tmp_path: Path) -> None:
    run_training(tiny.config("loop.epochs=1"), tmp_path / "run")
    with pytest.raises(RunError, match=r"(?s)holds a run already.*--resume"):
        run_training(tiny.config("loop.epochs=1"), tmp_path / "run")


@pytest.mark.parametrize("name", ["a b", "..", "-x", "x" * 101, "ä"])
def test_odd_names_are_refused(tiny, tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="cannot be a run's name"):
        run_training(tiny.config(), tmp_path / name)


def test_resume_needs_a_run_and_a_new_run_a_config(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no checkpoint"):
        run_training(None, tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="needs a config"):
        run_training(None, tmp_path / "run")


@pytest.mark.long
def test_runs_of_a_version_with_fewer_settings_go_on(tiny, tmp_path: Path) -> None:
    run_training(tiny.config("loop.epochs=1"), tmp_path / "run")
    file = latest_checkpoint(tmp_path / "run")
    header = json.loads(file.read_text())
    for key in ("precision", "channels_last", "checkpoints", "example"):
        del header["config"]["loop"][key]
    file.write_text(json.dumps(header))
    assert run_training(None, tmp_path / "run", resume=True, overrides=["loop.epochs=2"]).status == "finished"
    with pytest.raises(ConfigError, match="cannot change on resuming") as caught:
        run_training(None, tmp_path / "run", resume=True, overrides=["loop.precision=bf16"])
    assert caught.value.problems == ("loop.precision: 'fp32' in the run, 'bf16' asked for",)


@pytest.mark.long
def test_checkpoints_elsewhere_are_found_on_resuming(tiny, tmp_path: Path) -> None:
    config = tiny.config("loop.epochs=1", f"loop.checkpoints={tmp_path / 'kept'}", "loop.example=first")
    run_training(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert latest_checkpoint(tmp_path / "run").parent == tmp_path / "kept" / "run"
    run_training(None, tmp_path / "run", resume=True, overrides=["loop.epochs=2"])
    assert latest_checkpoint(tmp_path / "run").stem == "epoch-0002"
    assert (tmp_path / "run" / "example.png").is_file()
    with pytest.raises(RunError, match="kept/run holds a run already"):
        run_training(config, tmp_path / "run")


def test_only_the_first_process_writes_and_speaks(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    watcher = Watcher(on_start=told.append, on_epoch=told.append, on_decode=lambda *_: told.append(1))
    monkeypatch.setattr(run, "is_first_process", lambda: False)
    result = run_training(
        tiny.config("loop.epochs=1", "loop.trackers=[tensorboard]"), tmp_path / "run", watcher=watcher
    )
    assert result.status == "finished"
    assert told == []
    names = {path.name for path in (tmp_path / "run").rglob("*")}
    assert names & {"run.json", "tensorboard", ".lock"} == set()


@pytest.mark.long
def test_a_run_may_start_from_another_ones_weights(tiny, tmp_path: Path) -> None:
    run_training(tiny.config("loop.epochs=1"), tmp_path / "first")
    still = ("loop.epochs=1", "optim.encoder_lr=0", "optim.decoder_lr=1.0e-30", "loop.seed=5")
    run_training(tiny.config(*still, f"model.start={tmp_path / 'first'}"), tmp_path / "second")
    first, second = (load_checkpoint(latest_checkpoint(tmp_path / name)).model_state for name in ("first", "second"))
    # A weight that is zero takes even so small a step.
    assert all(torch.allclose(first[key], second[key], rtol=0) for key in first if key.endswith(("weight", "bias")))


def test_weights_of_another_architecture_are_no_start(tiny, tmp_path: Path) -> None:
    run_training(tiny.config("loop.epochs=1"), tmp_path / "first")
    with pytest.raises(ConfigError, match="'unet' of 1 classes, not a 'light' of 1"):
        run_training(tiny.config("model.name=light", f"model.start={tmp_path / 'first'}"), tmp_path / "second")
    with pytest.raises(RunError):
        run_training(tiny.config(f"model.start={tmp_path / 'nowhere'}"), tmp_path / "third")
