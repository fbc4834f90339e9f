"""HTML pages that need no other file: every name is escaped, and an unknown one in a template is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["render_template"]

# Styles that all pages have; templates include them by name.
_SHARED = Path(__file__).parent / "templates"


def render_template(template: Path, **values: Any) -> str:
    """The text that a Jinja template makes of the values; it may include files beside it, and the shared styles."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)
