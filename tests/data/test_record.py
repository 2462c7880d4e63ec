"""What was dropped is said when it happens, and kept for programs."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from dgex.data.record import Record


def test_notes_are_said_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    record = Record()
    with caplog.at_level(logging.INFO, logger="dgex"):
        record.note("5 % of %s dropped.")
    assert record.notes == ["5 % of %s dropped."]
    assert caplog.messages == record.notes


def test_dropped_names_are_a_table_whatever_they_hold(tmp_path: Path) -> None:
    record = Record()
    record.drop("profile", ["a\tb", "ü, 1", 7], 'distance "0.5" to x')
    record.drop("gene", [], "never")
    record.save(tmp_path / "dropped.tsv")
    table = pd.read_csv(tmp_path / "dropped.tsv", sep="\t", dtype=str)
    assert list(table.columns) == ["what", "id", "reason"]
    assert table["id"].tolist() == ["a\tb", "ü, 1", "7"]
    assert set(table["reason"]) == {'distance "0.5" to x'}


def test_nothing_dropped_is_a_table_without_rows(tmp_path: Path) -> None:
    Record().save(tmp_path / "dropped.tsv")
    assert (tmp_path / "dropped.tsv").read_text() == "what\tid\treason\n"


def test_two_records_share_nothing() -> None:
    first, second = Record(), Record()
    first.note("x")
    first.drop("gene", ["a"], "y")
    assert (second.notes, second.dropped) == ([], [])
