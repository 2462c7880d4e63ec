"""The few kinds of error that dgex raises on purpose.

A message states the fact, the offending names and the next step, on one line.
"""

from __future__ import annotations

from collections.abc import Iterable


class DgexError(Exception):
    """Anything dgex refuses to do, with a message for the user."""

    exit_code = 1


class DataError(DgexError):
    """The input cannot be used as it is."""


class UsageError(DgexError):
    """The request itself is wrong: an option, a combination of options, a name."""

    exit_code = 2


class DivergedError(DataError):
    """The weights in training are no longer numbers; going on or resuming is of no use."""


def name_list(names: Iterable[object], limit: int = 5) -> str:
    """First names of a list and a count of the rest, for messages.

    Examples
    --------
    >>> name_list(["TP53", "MYC"])
    'TP53, MYC'
    >>> name_list("abcdefgh", limit=3)
    'a, b, c and 5 more'
    """
    all_names = [str(name) for name in names]
    shown = ", ".join(all_names[:limit])
    rest = len(all_names) - limit
    return shown if rest <= 0 else f"{shown} and {rest} more"
