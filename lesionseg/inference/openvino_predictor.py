"""A ``Predictor`` on OpenVINO: an exported ``.xml``, the ``.bin`` beside it, and no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.errors import ConfigError, RunError
from lesionseg.inference.batches import both_classes, require_batch, require_probabilities
from lesionseg.inference.exported import INPUT, OPENVINO_INFO, ExportInfo
from lesionseg.inference.probe import PROBE_SECONDS, Port, require_ports, within
from lesionseg.inference.seal import require_seal
from lesionseg.inference.single import TakesPhotos
from lesionseg.io.reading import MAX_MODEL_BYTES, read_regular

if TYPE_CHECKING:
    from lesionseg.data.labels import Labels

__all__ = ["OpenvinoPredictor", "load_openvino"]


class OpenvinoPredictor(TakesPhotos):
    """A ``Predictor`` on OpenVINO's CPU kernels, one photo after the other.

    Args:
        xml, weights: the exported files' bytes.
        path: how messages call the first of them.
        threads: that share one photo; None leaves the choice to OpenVINO (all cores).

    Raises:
        ConfigError: OpenVINO is not installed.
        RunError: the bytes are no intact model, or not one that this program exported.
    """

    def __init__(self, xml: bytes, weights: bytes, path: Path, *, threads: int | None = None) -> None:
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise ConfigError(f"{path} needs openvino", fix="pip install 'lesionseg[openvino]'") from error
        # Before the runtime sees it: foreign graphs may take any time and memory while they are loaded.
        require_seal(xml, path, [weights])
        self.path, self.name = path, path.stem
        self.sha256 = hashlib.sha256(xml + weights).hexdigest()
        self._lock = Lock()
        within(PROBE_SECONDS, path, lambda: self._open(openvino.Core(), xml, weights, threads))
        self.labels: Labels = self.info.labels
        self.quality = self.info.quality
        self.checkpoint = self.info.checkpoint
        photo = np.zeros((1, self.height, self.width, 3), np.uint8)
        within(PROBE_SECONDS, path, lambda: self.infer_classes(photo), lambda: self._request.cancel())

    def _open(self, core: Any, xml: bytes, weights: bytes, threads: int | None) -> None:
        with _plain_errors(self.path, "is no intact OpenVINO model"):
            network = core.read_model(xml, weights)
            told = network.get_rt_info([OPENVINO_INFO]).value if network.has_rt_info([OPENVINO_INFO]) else {}
            inputs, outputs = ([_port(port) for port in ports] for ports in (network.inputs, network.outputs))
        self.info = ExportInfo.from_metadata(told, self.path)
        self.height, self.width = self.info.height, self.info.width
        names = {"probability"} if len(self.info.labels.names) == 1 else {"probability", "classes"}
        require_ports(self.path, inputs, Port(INPUT, "uint8", (None, self.height, self.width, 3)), outputs, names)
        with _plain_errors(self.path, "is no intact OpenVINO model"):
            # With the number of photos left open, int8 takes half as long again.
            network.reshape([1, self.height, self.width, 3])
            self._request = core.compile_model(network, "CPU", _settings(threads)).create_infer_request()

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor.infer``."""
        return self._run("probability", batch)

    def infer_classes(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor.infer_classes``."""
        if len(self.labels.names) == 1:
            return both_classes(self._run("probability", batch)[:, None])
        return self._run("classes", batch)

    def _run(self, output: str, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        require_batch(batch, self.height, self.width)
        # What a request gives lies in its own memory, which the next photo overwrites, another thread's too.
        with self._lock, _plain_errors(self.path, "cannot be run"):
            found = [np.array(self._request.infer([photo[None]], share_inputs=True)[output]) for photo in batch]
            together = np.concatenate(found)
        classes = (len(self.labels.names),) if output == "classes" else ()
        shape = (len(batch), *classes, self.height, self.width)
        return require_probabilities(together, shape, f"{self.name} ({self.checkpoint})")


def _port(port: Any) -> Port:
    kind = {"u8": "uint8", "f32": "float32"}.get(name := port.element_type.type_name, name)
    shape = tuple(None if side.is_dynamic else side.get_length() for side in port.partial_shape)
    # A port may have several names; the first is as good as any where none is expected.
    known = sorted(port.names & {INPUT, "probability", "classes"}) or sorted(port.names) or [""]
    return Port(known[0], kind, shape)


@contextmanager
def _plain_errors(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[-200:]
        raise RunError(f"{path} {what}: {reason}", fix="export or copy both files again") from error


def _settings(threads: int | None) -> dict[str, str | int | bool]:
    settings: dict[str, str | int | bool] = {
        # Left to itself, it computes in bfloat16 where the CPU can, which moves probabilities by up to 0.2.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        # The cores are shared with the threads that decode and encode.
        "ENABLE_CPU_PINNING": False,
    }
    return settings if threads is None else settings | {"INFERENCE_NUM_THREADS": threads}


def load_openvino(path: Path, *, threads: int | None = None) -> OpenvinoPredictor:
    """Loads the two files that ``lesionseg export --format openvino`` wrote.

    Args:
        path: the ``.xml``; the ``.bin`` is looked for beside it.
        threads: as ``OpenvinoPredictor``.

    Raises:
        ConfigError: OpenVINO is not installed.
        RunError: a file is missing, damaged, or of another program.
    """
    fix = "keep the .xml and the .bin of an export side by side, under one name"
    files = (path, path.with_suffix(".bin"))
    xml, weights = (read_regular(file, limit=MAX_MODEL_BYTES, error=RunError, fix=fix) for file in files)
    return OpenvinoPredictor(xml, weights, path, threads=threads)
