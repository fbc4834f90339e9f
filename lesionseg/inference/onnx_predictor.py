"""A ``Predictor`` on ONNX Runtime: an exported file and no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.errors import RunError
from lesionseg.inference.batches import both_classes, require_batch, require_probabilities
from lesionseg.inference.exported import INPUT, ExportInfo
from lesionseg.inference.probe import PROBE_SECONDS, Port, require_ports, within
from lesionseg.inference.seal import require_seal
from lesionseg.inference.single import TakesPhotos
from lesionseg.io.reading import MAX_MODEL_BYTES, read_regular

if TYPE_CHECKING:
    from lesionseg.data.labels import Labels

__all__ = ["OnnxPredictor", "load_onnx"]

_AGAIN = "export or copy it again"
_ERRORS = (
    *("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile", "NotFound"),
    *("NotImplemented", "RuntimeException"),
)


class OnnxPredictor(TakesPhotos):
    """A ``Predictor`` on ONNX Runtime's CPU kernels.

    Args:
        data: the exported file's bytes.
        path: how messages call it.
        threads: that share one batch; None leaves the choice to ONNX Runtime (all cores).
        name: the model's; by default that of the file.
        verified: whether the bytes were compared with a known SHA-256. If not, the file must hold its own, and it must
            give a result within a time.

    Attributes:
        moves: it can be pickled, and does the same in another process.

    Raises:
        RunError: the bytes are no intact model, or not one that this program exported.
        NonFiniteError: the model's first result holds NaN.
    """

    moves = True

    def __init__(
        self, data: bytes, path: Path, *, threads: int | None = None, name: str | None = None, verified: bool = False
    ) -> None:
        self._made_of = data, path, threads, name
        self.path = path
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.name = name or path.stem
        if verified:
            self._open(data, threads)
        else:
            # Before the runtime sees it: foreign graphs may take any time and memory while they are loaded.
            require_seal(data, path)
            within(PROBE_SECONDS, path, lambda: self._open(data, threads))
            self._probe()

    def _open(self, data: bytes, threads: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        # Threads that wait by spinning would take the cores from those that decode and encode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Processors without VNNI add products of int8 in 16 bits, which overflow; with this, weights are made unsigned
        # there, which takes a quarter more time. Elsewhere it has no effect.
        options.add_session_config_entry("session.x64quantprecision", "1")
        # A place that holds no files: weights outside the file would be looked for in the working folder.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        # What goes wrong is raised, too.
        options.log_severity_level = 4
        with _plain_errors(self.path, "is no intact ONNX model"):
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            texts = self._session.get_modelmeta().custom_metadata_map
            inputs = [_port(port) for port in self._session.get_inputs()]
            outputs = [_port(port) for port in self._session.get_outputs()]
        self.info = info = ExportInfo.from_metadata(texts, self.path)
        self.height, self.width = info.height, info.width
        self.labels: Labels = info.labels
        self.quality = info.quality
        self.checkpoint = info.checkpoint
        names = {"probability"} if len(self.labels.names) == 1 else {"probability", "classes"}
        require_ports(self.path, inputs, Port(INPUT, "uint8", (None, self.height, self.width, 3)), outputs, names)

    def _probe(self) -> None:
        import onnxruntime

        options = onnxruntime.RunOptions()

        def stop() -> None:
            options.terminate = True

        photo = np.zeros((1, self.height, self.width, 3), np.uint8)
        outputs = ["probability"] if len(self.labels.names) == 1 else ["probability", "classes"]
        for output in outputs:
            within(PROBE_SECONDS, self.path, partial(self._run, output, photo, options), stop)

    def __reduce__(self) -> tuple[Callable[..., OnnxPredictor], tuple[bytes, Path, int | None, str | None]]:
        return _remade, self._made_of

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor.infer``."""
        return self._run("probability", batch)

    def infer_classes(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor.infer_classes``."""
        if len(self.labels.names) == 1:
            return both_classes(self._run("probability", batch)[:, None])
        return self._run("classes", batch)

    def _run(self, output: str, batch: NDArray[np.uint8], options: Any = None) -> NDArray[np.float32]:
        require_batch(batch, self.height, self.width)
        with _plain_errors(self.path, "cannot be run"):
            (found,) = self._session.run([output], {INPUT: batch}, options)
        classes = (len(self.labels.names),) if output == "classes" else ()
        shape = (len(batch), *classes, self.height, self.width)
        return require_probabilities(found, shape, f"{self.name} ({self.checkpoint})")


def _remade(data: bytes, path: Path, threads: int | None, name: str | None) -> OnnxPredictor:
    return OnnxPredictor(data, path, threads=threads, name=name, verified=True)


def _port(port: Any) -> Port:
    kind = str(port.type).removeprefix("tensor(").removesuffix(")")
    shape = tuple(side if isinstance(side, int) else None for side in port.shape)
    return Port(str(port.name), {"float": "float32"}.get(kind, kind), shape)


@contextmanager
def _plain_errors(path: Path, what: str) -> Iterator[None]:
    """ONNX Runtime's errors, which share no class, as one."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [getattr(state, name) for name in _ERRORS if hasattr(state, name)]
    try:
        yield
    except (*kinds, MemoryError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path} {what}: {reason}", fix=_AGAIN) from error


def load_onnx(path: Path, *, threads: int | None = None) -> OnnxPredictor:
    """Loads a file that ``lesionseg export`` wrote.

    Raises:
        RunError: it is missing, damaged, or of another program.
    """
    return OnnxPredictor(read_regular(path, limit=MAX_MODEL_BYTES, error=RunError), path, threads=threads)
