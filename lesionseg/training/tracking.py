"""TensorBoard and MLflow, where a config asks for them; both come with ``pip install 'lesionseg[tracking]'``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lesionseg.errors import ConfigError

__all__ = ["TRACKERS", "open_trackers"]

Log = Callable[[Mapping[str, Any]], None]


@contextmanager
def _tensorboard(run: Path, info: Mapping[str, Any]) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / "tensorboard"))
    writer.add_text("run", f"```\n{info}\n```")

    def log(row: Mapping[str, Any]) -> None:
        for key, value in _scalars(row):
            writer.add_scalar(key, value, row["epoch"])

    try:
        yield log
    finally:
        writer.close()


@contextmanager
def _mlflow(run: Path, info: Mapping[str, Any]) -> Iterator[Log]:
    from mlflow import MlflowClient

    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.absolute() / 'mlflow.db'}")
    known = client.get_experiment_by_name("lesionseg")
    experiment = known.experiment_id if known else client.create_experiment("lesionseg")
    run_id = client.create_run(experiment, run_name=info["name"]).info.run_id
    for section, values in info["config"].items():
        for key, value in values.items():
            client.log_param(run_id, f"{section}.{key}", value)

    def log(row: Mapping[str, Any]) -> None:
        for key, value in _scalars(row):
            client.log_metric(run_id, key, value, step=row["epoch"])

    status = "FAILED"
    try:
        yield log
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Any]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}


def _scalars(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(key, float(value)) for key, value in row.items() if key != "epoch"]


@contextmanager
def open_trackers(names: Sequence[str], run: Path, info: Mapping[str, Any]) -> Iterator[Log]:
    """Opens trackers by name and gives a function that logs a history row to all of them.

    Args:
        names: keys of ``TRACKERS``.
        run: the run folder.
        info: the content of ``run.json``.

    Raises:
        ConfigError: a tracker's package is not installed.
    """
    with ExitStack() as stack:
        try:
            logs: list[Log] = [stack.enter_context(TRACKERS[name](run, info)) for name in names]
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"loop.trackers={list(names)} needs the package {error.name}", fix="pip install 'lesionseg[tracking]'"
            ) from error

        def log(row: Mapping[str, Any]) -> None:
            for one in logs:
                one(row)

        yield log
