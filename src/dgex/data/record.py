"""What a run dropped, filled or imputed: said while it happens, and kept."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

log = logging.getLogger("dgex")


@dataclass
class Record:
    """What was dropped, filled or imputed: sentences for people, rows for programs."""

    notes: list[str] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Say something now and keep it."""
        log.info("%s", sentence)
        self.notes.append(sentence)

    def drop(self, what: str, names: Iterable[Any], reason: str) -> None:
        """Keep the names of what was dropped."""
        self.dropped += [(what, str(name), reason) for name in names]

    def save(self, path: Path) -> None:
        """Write the dropped genes and profiles as a table."""
        table = pd.DataFrame(self.dropped, columns=["what", "id", "reason"])
        table.to_csv(path, sep="\t", index=False)
