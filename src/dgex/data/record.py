"""What a run dropped, filled or imputed: said while it happens, and kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

log = logging.getLogger("dgex")

SIMULATED_ID = "simulated-"
"""How the id of every profile of ``dgex simulate`` begins: text has no room for more."""
_SIMULATED_NOTE = "Simulated profiles: "


def note_simulated(obs: pd.DataFrame, source: object, note: Callable[[str], None]) -> None:
    """Take a note where profiles come from ``dgex simulate``, by their table or their ids.

    Examples
    --------
    >>> note_simulated(pd.DataFrame(index=["simulated-geo-0000001", "GSM1"]), "x.gctx", print)
    Simulated profiles: 1 of 2 in x.gctx are from dgex simulate.
    """
    by_id = obs.index.astype(str).str.startswith(SIMULATED_ID)
    column = obs.get("simulated", pd.Series("", obs.index)).fillna("").astype(str)
    n_simulated = int((by_id | column.str.startswith("dgex simulate")).sum())
    if n_simulated:
        note(f"{_SIMULATED_NOTE}{n_simulated} of {len(obs)} in {source} are from dgex simulate.")


def taught_by_simulated(model: str) -> str:
    """The note that a Model learned from simulated profiles; `is_simulated` knows it.

    Examples
    --------
    >>> is_simulated([taught_by_simulated("ridge")])
    True
    """
    return f"{_SIMULATED_NOTE}{model} was trained on them."


def is_simulated(notes: Iterable[str]) -> bool:
    """Whether the notes of a Dataset or an evaluation say that profiles are simulated."""
    return any(note.startswith(_SIMULATED_NOTE) for note in notes)


@dataclass
class Record:
    """What was dropped, filled or imputed: sentences for people, rows for programs."""

    notes: list[str] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Say something now and keep it."""
        log.info("%s", sentence)
        self.notes.append(sentence)

    def warn(self, sentence: str) -> None:
        """Warn of something now and keep it."""
        log.warning("%s", sentence)
        self.notes.append(sentence)

    def drop(self, what: str, names: Iterable[Any], reason: str) -> None:
        """Keep the names of what was dropped."""
        self.dropped += [(what, str(name), reason) for name in names]

    def save(self, path: Path) -> None:
        """Write the dropped genes and profiles as a table."""
        table = pd.DataFrame(self.dropped, columns=["what", "id", "reason"])
        table.to_csv(path, sep="\t", index=False)
