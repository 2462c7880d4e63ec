"""Progress goes to the reporter that is set, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dgex import progress


class Heard:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def update(self, what: str, done: int, total: int) -> None:
        self.calls.append((what, done, total))


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    progress.set_reporter(heard)
    yield heard
    progress.set_reporter(None)


def test_track_reports_the_start_and_every_item(heard: Heard) -> None:
    assert list(progress.track(iter("ab"), "letters", total=2)) == ["a", "b"]
    assert heard.calls == [("letters", 0, 2), ("letters", 1, 2), ("letters", 2, 2)]


def test_an_item_counts_only_once_it_is_finished(heard: Heard) -> None:
    tracked = progress.track("ab", "letters", total=2)
    next(tracked)
    assert heard.calls[-1] == ("letters", 0, 2)


def test_report_passes_its_arguments_on(heard: Heard) -> None:
    progress.report("ranking", 3, 9)
    assert heard.calls == [("ranking", 3, 9)]


def test_nothing_is_heard_after_the_reporter_is_taken_away(
    heard: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.set_reporter(None)
    list(progress.track("abc", "letters", total=3))
    assert heard.calls == []
    assert capsys.readouterr() == ("", "")
