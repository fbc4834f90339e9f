"""How every figure looks: matplotlib's object interface on Agg, in colours that colour-blind readers tell apart.

The palette is that of Okabe and Ito (https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lesionseg.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GREY", "INK", "PALETTE", "RULE", "colour", "load_matplotlib", "plain", "render"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, GREY, RULE = "#1a1a1a", "#6b6b6b", "#d9d9d9"

_DPI = 180
_NAME_LENGTH = 28

# Any: matplotlib's own type for this is a Literal of every key there is.
_STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), GREY),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon", "text.usetex"), False),
    **dict.fromkeys(("figure.facecolor", "savefig.facecolor", "axes.facecolor"), "white"),
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "lines.linewidth": 1.4,
}


def load_matplotlib() -> ModuleType:
    """Import matplotlib, whatever backend the environment names.

    A notebook or a desktop passes ``MPLBACKEND`` on to the commands that are started from it; where their environment
    lacks that backend, the import raises. No figure here needs one.

    Raises:
        OutputError: there is no folder in which matplotlib could keep its list of fonts.
    """
    if "matplotlib" in sys.modules:
        return sys.modules["matplotlib"]
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl

        if backend:
            # As the import would have set it, for code of the user's that draws in the same process.
            with contextlib.suppress(ValueError):
                mpl.rcParams["backend"] = backend
    except OSError as error:
        raise OutputError(
            f"matplotlib has no folder to write to: {error.strerror or error}",
            fix="set MPLCONFIGDIR or TMPDIR to a writable folder",
        ) from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return mpl


def render(draw: Callable[[Figure], None], width: float, height: float) -> bytes:
    """PNG bytes of what ``draw`` puts on a figure of that many inches; the same bytes for the same input."""
    mpl = load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@cache
def _glyphs() -> frozenset[int]:
    load_matplotlib()
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def plain(name: str, limit: int = _NAME_LENGTH) -> str:
    """A name as matplotlib text: no mathematics, no missing glyphs, not too long."""
    known = "".join(c if c.isprintable() and ord(c) in _glyphs() else "?" for c in name)
    short = known if len(known) <= limit else known[: limit - 1] + "…"
    return short.replace("\\", "/").replace("$", r"\$")


def colour(index: int) -> str:
    """Of the run at this place; the same in every figure."""
    return PALETTE[index % len(PALETTE)]
