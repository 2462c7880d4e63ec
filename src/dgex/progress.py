"""Progress of long work: the library reports it, the command line shows it.

Nothing is shown until a reporter is set, so that a Python session stays quiet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Reporter(Protocol):
    """Receives the state of one running piece of work."""

    def update(self, what: str, done: int, total: int) -> None:
        """`done` of `total` units of the work called `what` are finished."""


class _Silent:
    def update(self, what: str, done: int, total: int) -> None:
        return None


_reporter: Reporter = _Silent()


def set_reporter(reporter: Reporter | None) -> None:
    """Send progress to `reporter`; None makes it silent again."""
    global _reporter
    _reporter = _Silent() if reporter is None else reporter


def report(what: str, done: int, total: int) -> None:
    """Report that `done` of `total` units of the work called `what` are finished."""
    _reporter.update(what, done, total)


def track(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield `items`, reporting after each that it is finished.

    Examples
    --------
    >>> list(track("abc", "letters", total=3))
    ['a', 'b', 'c']
    """
    report(what, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        report(what, done, total)
