"""How far an interrupted matrix file got: a small file beside its partial file."""

from __future__ import annotations

import json
from pathlib import Path

from dgex.errors import UsageError
from dgex.files import partial_path, write_json


class Journal:
    """Rows that are safely in the partial file of `out`, and where its matrix begins.

    Parameters
    ----------
    out
        Final name of the matrix file.
    key
        What the file is made from and how: a file of another key is not gone on with.

    Examples
    --------
    >>> import tempfile
    >>> journal = Journal(Path(tempfile.mkdtemp()) / "y.gctx", key="model a, plate b")
    >>> journal.partial.touch()
    >>> journal.write(offset=2048, rows=100)
    >>> journal.read()
    (2048, 100)
    """

    def __init__(self, out: Path, key: str) -> None:
        self.partial = partial_path(out)
        self._path = self.partial.with_name(self.partial.name + ".json")
        self._key = key

    def read(self) -> tuple[int, int] | None:
        """Offset of the matrix in bytes and number of rows; None where there is nothing.

        Raises
        ------
        UsageError
            The partial file was made from something else.
        """
        if not (self.partial.is_file() and self._path.is_file()):
            return None
        try:
            content = json.loads(self._path.read_text("utf-8"))
            key, place = content["key"], (int(content["offset"]), int(content["rows"]))
        except (ValueError, KeyError, TypeError):
            return None
        if key != self._key:
            raise UsageError(
                f"{self.partial} was begun with another model, input or options, so it cannot be "
                "gone on with. Leave out --resume to start again."
            )
        return place

    def write(self, *, offset: int, rows: int) -> None:
        """Note that `rows` rows are in the file."""
        write_json(self._path, {"key": self._key, "offset": offset, "rows": rows})

    def remove(self) -> None:
        """Forget it all, and the partial file with it."""
        self._path.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)
        self._path.with_name(self._path.name + ".partial").unlink(missing_ok=True)

    def finish(self) -> None:
        """Forget the journal of a file that is whole."""
        self._path.unlink(missing_ok=True)
