import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lesionseg.errors import OutputError, RunError
from lesionseg.models import EncoderSpec, ModelSpec, build_model
from lesionseg.records import Checkpoint
from lesionseg.training.checkpoint import (
    FOLDER,
    checkpoint_files,
    checkpoint_folder,
    latest_checkpoint,
    load_checkpoint,
    load_model,
    optimizer_tensors,
    place_checkpoints,
    restore_optimizer,
    save_checkpoint,
    tidy_checkpoints,
)


def small(epoch: int = 1, step: int = 0, value: float = 1.0) -> Checkpoint:
    return Checkpoint(
        config={"loop": {"epochs": 3}},
        model_spec={},
        model_state={"weight": torch.full((2, 3), value), "count": torch.tensor(epoch)},
        optim_state={"0.exp_avg": torch.tensor([0.1, 1e-45])},
        optim_groups=({"lr": 0.01, "betas": [0.9, 0.999], "params": [0]},),
        epoch=epoch,
        step=step,
        best={"metric": "val_dice", "value": 0.1 + 0.2, "epoch": 1},
        history=tuple({"epoch": i + 1, "val_dice": 1 / 3} for i in range(epoch)),
        partial={"loss_sum": 0.0, "images": 0, "seconds": 0.0},
    )


def test_everything_comes_back(tmp_path: Path) -> None:
    saved = small()
    loaded = load_checkpoint(save_checkpoint(saved, tmp_path, is_best=True, keep=2))
    for name in ("config", "model_spec", "optim_groups", "epoch", "step", "best", "history", "partial"):
        assert getattr(loaded, name) == getattr(saved, name), name
    for name in ("model_state", "optim_state"):
        tensors = getattr(saved, name)
        assert getattr(loaded, name).keys() == tensors.keys()
        assert all(torch.equal(getattr(loaded, name)[key], value) for key, value in tensors.items())


def test_last_two_and_the_best_stay(tmp_path: Path) -> None:
    for epoch in range(1, 6):
        save_checkpoint(small(epoch), tmp_path, is_best=epoch == 2, keep=2)
    assert [path.stem for path in checkpoint_files(tmp_path)] == ["epoch-0002", "epoch-0004", "epoch-0005"]
    assert len(list(tmp_path.glob("*.safetensors"))) == 6


def test_steps_inside_an_epoch_come_after_it(tmp_path: Path) -> None:
    for epoch, step in ((1, 0), (1, 12), (1, 3)):
        save_checkpoint(small(epoch, step), tmp_path, is_best=False, keep=9)
    assert [path.stem for path in checkpoint_files(tmp_path)] == [
        "epoch-0001",
        "epoch-0001-step-000003",
        "epoch-0001-step-000012",
    ]


@pytest.mark.parametrize("part", ["model", "optim"])
def test_one_flipped_bit_is_found(tmp_path: Path, part: str) -> None:
    file = save_checkpoint(small(), tmp_path, is_best=True, keep=2)
    path = tmp_path / f"epoch-0001.{part}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=rf"epoch-0001\.{part}\.safetensors is damaged: its SHA-256"):
        load_checkpoint(file)


def test_missing_and_malformed_parts_are_named(tmp_path: Path) -> None:
    file = save_checkpoint(small(), tmp_path, is_best=True, keep=2)
    content = json.loads(file.read_text())
    (tmp_path / "epoch-0001.optim.safetensors").unlink()
    assert load_checkpoint(file, with_optimizer=False).optim_state == {}
    with pytest.raises(RunError, match=r"optim\.safetensors does not exist"):
        load_checkpoint(file)
    for broken, message in (
        ("{", "is not valid JSON"),
        ("[" * 9999, "nested more than 50"),
        ("[]", "no JSON object"),
        ("{}", "format None"),
    ):
        file.write_text(broken)
        with pytest.raises(RunError, match=message):
            load_checkpoint(file)
    del content["history"]
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match="history: missing"):
        load_checkpoint(file, with_optimizer=False)


def test_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lesionseg.training import checkpoint as module

    save_checkpoint(small(1), tmp_path, is_best=True, keep=1)
    real = module.write_atomic

    def full_disk(path: Path, data: bytes) -> None:
        if path.suffix == ".json":
            raise OutputError(f"{path} cannot be written: No space left on device")
        real(path, data)

    monkeypatch.setattr(module, "write_atomic", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        save_checkpoint(small(2), tmp_path, is_best=True, keep=1)
    monkeypatch.undo()
    assert load_checkpoint(checkpoint_files(tmp_path)[-1]).epoch == 1
    # The tensors that had no header yet are cleared away by the next one.
    save_checkpoint(small(3), tmp_path, is_best=True, keep=1)
    assert not list(tmp_path.glob("epoch-0002*"))


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"(?s)holds no checkpoint.*train it first"):
        latest_checkpoint(tmp_path)


def test_optimizer_goes_on_exactly() -> None:
    def steps(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, count: int) -> None:
        for i in range(count):
            optimizer.zero_grad()
            (parameter**3 * (i + 1)).sum().backward()
            optimizer.step()

    def fresh() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 5))
        return parameter, torch.optim.Adam([{"name": "decoder", "params": [parameter], "lr": 0.1}])

    parameter, optimizer = fresh()
    steps(parameter, optimizer, 3)
    tensors, groups = optimizer_tensors(optimizer)
    other, restored = fresh()
    other.data.copy_(parameter.data)
    restore_optimizer(restored, tensors, groups)
    steps(parameter, optimizer, 3)
    steps(other, restored, 3)
    assert torch.equal(parameter, other)
    assert restored.param_groups[0]["name"] == "decoder"


@pytest.mark.parametrize("which", ["best", "last"])
def test_model_is_rebuilt(tmp_path: Path, which: str) -> None:
    models = [build_model(ModelSpec("unet", 0.4, 1, EncoderSpec(mean=(0.5, 0.5, 0.5)))).eval() for _ in range(2)]
    for epoch, model in enumerate(models, start=1):
        saved = replace(small(epoch), model_spec=model.spec.to_json(), model_state=model.state_dict())
        save_checkpoint(saved, tmp_path / FOLDER, is_best=epoch == 1, keep=2)
    model, checkpoint, digest = load_model(tmp_path, which)
    expected = models[0 if which == "best" else 1]
    assert checkpoint.epoch == (1 if which == "best" else 2)
    assert len(digest) == 64
    assert not model.training
    image = torch.rand(1, 3, 32, 32) * 255
    with torch.no_grad():
        assert torch.equal(model(image), expected(image))


def test_checkpoints_in_a_folder_of_ones_choice(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    assert checkpoint_folder(run) == run / FOLDER
    place_checkpoints(run, str(tmp_path / "big disk"))
    assert checkpoint_folder(run) == tmp_path / "big disk" / "one"
    model = build_model(ModelSpec("unet", 0.4, 1, EncoderSpec()))
    saved = replace(small(), model_spec=model.spec.to_json(), model_state=model.state_dict())
    file = save_checkpoint(saved, checkpoint_folder(run), is_best=True, keep=2)
    assert latest_checkpoint(run) == file == tmp_path / "big disk" / "one" / "epoch-0001.json"
    assert load_model(run)[1].epoch == 1
    place_checkpoints(run, None)
    assert checkpoint_folder(run) == run / FOLDER
    wrong = {"{": "is not valid JSON", "[" * 9999: "is nested more than 50", "{}": "names no folder"}
    for broken, message in wrong.items():
        (run / "checkpoints.json").write_text(broken)
        with pytest.raises(RunError, match=rf"checkpoints.json {message}"):
            checkpoint_folder(run)


def test_a_relative_folder_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place_checkpoints(Path("run"), "kept")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert checkpoint_folder(tmp_path / "run") == tmp_path / "kept" / "run"


def test_what_a_kill_left_undone_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    for epoch in (1, 2, 3):
        newest = replace(small(epoch), best={"metric": "val_dice", "value": 0.5, "epoch": epoch})
        save_checkpoint(newest, folder, is_best=epoch == 1, keep=9)
    # Killed after the third, the best, was written, and in the middle of a fourth.
    (folder / ".part-abc.safetensors").touch()
    (folder / "epoch-0004.model.safetensors").touch()
    tidy_checkpoints(tmp_path, newest, keep=1)
    assert json.loads((folder / "best.json").read_text()) == {"checkpoint": "epoch-0003"}
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.json",
        "epoch-0003.json",
        "epoch-0003.model.safetensors",
        "epoch-0003.optim.safetensors",
    ]


def test_tidying_leaves_an_older_best_alone(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    for epoch in (1, 2):
        save_checkpoint(small(epoch), folder, is_best=epoch == 1, keep=9)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    tidy_checkpoints(tmp_path, small(2), keep=1)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


WRONG = {
    "epoch": "1",
    "step": -1,
    "best": {"metric": 1},
    "sha256": {"model": "x"},
    "config": {"data": 3},
    "partial": {},
    "history": {},
    "optim_groups": [1],
}


@pytest.mark.parametrize("key", WRONG)
def test_a_header_with_a_wrong_value_is_one_error(tmp_path: Path, key: str) -> None:
    file = save_checkpoint(small(), tmp_path, is_best=True, keep=2)
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: WRONG[key]}))
    with pytest.raises(RunError, match=rf"epoch-0001\.json is damaged:\n  - {key}"):
        load_checkpoint(file)


@pytest.mark.parametrize("spec", [{}, {"name": 3}, {"name": "nosuch", "dropout": 0.1, "classes": 1}, {"encoder": []}])
def test_a_header_of_no_network(tmp_path: Path, spec: dict[str, object]) -> None:
    run = tmp_path / "run"
    save_checkpoint(replace(small(), model_spec=spec), run / FOLDER, is_best=True, keep=2)
    with pytest.raises(RunError, match=r"epoch-0001\.json: model_spec is damaged:\n  - "):
        load_model(run)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("part", ["", FOLDER, f"{FOLDER}/epoch-0001.json", f"{FOLDER}/epoch-0001.model.safetensors"])
def test_what_may_not_be_read_is_named_and_not_called_damaged(tmp_path: Path, part: str) -> None:
    run = tmp_path / "run"
    save_checkpoint(small(), run / FOLDER, is_best=True, keep=2)
    (run / part).chmod(0)
    try:
        with pytest.raises(RunError, match=r"cannot be read: [Pp]ermission denied\nFix: give this user") as caught:
            load_model(run)
        assert str(run / part) in caught.value.message
    finally:
        (run / part).chmod(0o700)


def test_a_folder_that_may_not_be_listed_is_not_taken_for_empty(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(RunError, match=r"cannot be read: Permission denied\nFix: give this user read"):
        latest_checkpoint(tmp_path)
