"""Reports: single HTML files that need no network.

Everything is inline: style, and figures as SVG in data addresses. Names are escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgex.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 200


def write_page(path: Path, template: str, **values: Any) -> None:
    """Fill a template of the package and write it as `path`.

    Raises
    ------
    DataError
        The disk is full, or the folder may not be written.
    """
    import jinja2

    # Undefined names are errors: a template that misses a value must not print nothing.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dgex"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template).render(values)
    with whole_file(path) as partial:
        partial.write_text(html, "utf-8")


def save_figure(figure: Figure, directory: Path, name: str) -> None:
    """Write a figure as PNG and SVG into `directory`.

    Raises
    ------
    DataError
        The disk is full, or the folder may not be written.
    """
    for kind in ("png", "svg"):
        with whole_file(directory / f"{name}.{kind}") as partial:
            partial.write_bytes(_rendered(figure, kind))


def figure_block(name: str, heading: str, caption: str, figure: Figure) -> dict[str, str]:
    """A figure as the templates take it.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> block = figure_block("r", "Correlation", "By model.", Figure(figsize=(2, 1)))
    >>> block["width"], block["source"][:26]
    ('192', 'data:image/svg+xml;base64,')
    """
    encoded = base64.b64encode(_rendered(figure, "svg")).decode("ascii")
    return {
        "name": name,
        "heading": heading,
        "caption": caption,
        "source": f"data:image/svg+xml;base64,{encoded}",
        "width": f"{figure.get_figwidth() * 96:.0f}",
        "height": f"{figure.get_figheight() * 96:.0f}",
    }


def run_lines(run: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and texts of what was run; a mapping as value is a group of such lines.

    Examples
    --------
    >>> run_lines({"seed": 0, "Dataset": {"profiles": 88807, "external": []}})
    [('seed', '0'), ('Dataset · profiles', '88,807'), ('Dataset · external', '–')]
    """
    lines: list[tuple[str, str]] = []
    for key, value in run.items():
        if isinstance(value, Mapping):
            lines += run_lines(value, f"{prefix}{key} · ")
        else:
            lines.append((f"{prefix}{key}", _value_text(value)))
    return lines


def _value_text(value: Any) -> str:
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value_text, value))
    return str(value)


def _rendered(figure: Figure, kind: str) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    # Without a date and with a fixed salt the same scores give the same bytes.
    with mpl.rc_context({"svg.hashsalt": "dgex"}):
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()
