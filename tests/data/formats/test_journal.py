"""The journal of an interrupted file."""

from __future__ import annotations

import pytest

from dgex.data.formats.journal import Journal
from dgex.errors import UsageError


def test_a_journal_is_read_back_only_for_the_same_key(tmp_path):
    journal = Journal(tmp_path / "y.gctx", "one")
    assert journal.read() is None
    journal.write(offset=512, rows=7)
    assert journal.read() is None  # the matrix file itself is not there
    journal.partial.write_bytes(b"rows")
    assert Journal(tmp_path / "y.gctx", "one").read() == (512, 7)
    with pytest.raises(UsageError, match="another model"):
        Journal(tmp_path / "y.gctx", "two").read()


def test_a_damaged_journal_counts_as_none(tmp_path):
    journal = Journal(tmp_path / "y.gctx", "one")
    journal.write(offset=512, rows=7)
    journal.partial.write_bytes(b"rows")
    path = tmp_path / "y.gctx.partial.json"
    path.write_text(path.read_text()[:20])
    assert journal.read() is None
    journal.remove()
    assert list(tmp_path.iterdir()) == []
