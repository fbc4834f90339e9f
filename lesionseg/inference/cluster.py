"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lesionseg.errors import ConfigError

__all__ = ["join_cluster", "require_ray"]

# Seconds until a cluster has to answer.
_PATIENCE = 20.0


def require_ray() -> Any:
    """Return the module ``ray``.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("this engine needs the extra [ray]", fix="pip install 'lesionseg[ray]'") from error
    return ray


@contextmanager
def join_cluster(ray: Any, address: str | None, workers: int | None) -> Iterator[int]:
    """Joins or starts a cluster; gives its number of cores."""
    started = not ray.is_initialized()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if started:
        _join(ray, address, workers)
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if started:
            ray.shutdown()


def _join(ray: Any, address: str | None, workers: int | None) -> None:
    """The cluster that is named, or that is here; else one is started, and may have so many cores."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = address or os.environ.get("RAY_ADDRESS") or None
    try:
        if address is not None:
            _knock(address)
            ray.init(address, **quiet)
            return
        try:
            ray.init(num_cpus=workers, include_dashboard=False, **quiet)
        except ValueError:
            # That is what Ray says to a number of cores where a cluster has been started on this machine.
            ray.init(**quiet)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"the Ray cluster {address or 'here'} cannot be joined: {reason}",
            fix="check --address and that the cluster runs: ray status",
        ) from error


def _knock(address: str) -> None:
    """Raises OSError where nobody answers: Ray would try for many minutes, and tell of it in its own log alone."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
