"""How the command line shows what the library logs and how far it is; part of `dgex.cli`."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class LogLines(logging.Handler):
    """What the library logs, on standard error; above the progress bar where there is one."""

    def __init__(self, reporter: LineProgress | TerminalProgress) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        warns = record.levelno >= logging.WARNING
        print(f"{'warning: ' if warns else ''}{record.getMessage()}", file=sys.stderr, flush=True)
        self._reporter.said()


class LineProgress:
    """A plain line after ten seconds without any, for log files."""

    def __init__(self) -> None:
        self.said()

    def said(self) -> None:
        """Note that something was printed."""
        self._said = time.monotonic()

    def update(self, what: str, done: int, total: int) -> None:
        """Print a line if none was printed for a while."""
        if time.monotonic() - self._said >= 10:
            self.said()
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is open."""


class TerminalProgress:
    """A bar that appears for work of more than a moment."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._began = 0.0

    def said(self) -> None:
        """The bar stays below what is printed."""

    def update(self, what: str, done: int, total: int) -> None:
        """Show, move or remove the bar."""
        now = time.monotonic()
        if what != self._what:
            self.close()
            self._what, self._began = what, now
        if done >= total:
            self.close()
        elif self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif now - self._began > 0.5:
            self._open(what, done, total)

    def _open(self, what: str, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining()
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(what, completed=done, total=total)
        self._bar.start()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._task, self._what = None, None, ""


_SHOWN = {
    "model": "model",
    "set": "set",
    "moments": "moments",
    "n_profiles": "profiles",
    "n_targets": "targets",
    "mae": "MAE",
    "mae_sd": "± sd",
    "rmse": "RMSE",
    "median_r": "median r",
    "improvement_over_ols_percent": "vs OLS %",
    "genes_won_over_ols_percent": "genes won %",
}


def print_table(summary: Any) -> None:
    """Print the columns of an evaluation's summary that fit a terminal.

    Moments are shown where there are others than those of training, and their units said.

    Examples
    --------
    >>> import pandas as pd
    >>> scores = {name: [0.25] for name in _SHOWN} | {"model": ["ols"], "set": ["test"]}
    >>> print_table(pd.DataFrame(scores)[list(_SHOWN)])  # doctest: +ELLIPSIS
    model  set   ...
    ols    test  ...
    """
    decimals = {"improvement_over_ols_percent": 2, "genes_won_over_ols_percent": 1}
    columns = {}
    own = (summary["moments"] == "own").any()
    for column, title in _SHOWN.items():
        if column == "moments" and not own:
            continue
        values = summary[column]
        if values.dtype.kind == "f":
            digits = decimals.get(column, 4)
            columns[title] = ["-" if v != v else f"{v:.{digits}f}" for v in values]
        else:
            columns[title] = [str(v) for v in values]
    _print_columns(columns, {"model", "set", "moments"})
    if own:
        print(
            "\nErrors are in standard deviations: by own moments of the set, by training moments "
            "of the training profiles."
        )


def print_tried(tried: Any) -> None:
    """Print what ``auto`` tried: seconds, MAE on validation, mean weight in the result.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"model": "ridge", "seconds": 2.25, "mae_validation": 0.5, "weight": 1.0, "note": ""}
    >>> print_tried(pd.DataFrame([row]))
    model  seconds  validation MAE  weight  note
    ridge      2.2          0.5000    1.00
    """
    formats = {"seconds": "{:.1f}", "mae_validation": "{:.4f}", "weight": "{:.2f}"}
    titles = {"mae_validation": "validation MAE"}
    columns = {}
    for column, values in tried.items():
        shown = formats.get(column, "{}")
        cells = ["-" if value != value else shown.format(value) for value in values]
        columns[titles.get(column, column)] = cells
    _print_columns(columns, {"model", "note"})


def _print_columns(columns: dict[str, list[str]], left: set[str]) -> None:
    """Print columns of cells under their titles; those in `left` begin at the left edge."""
    widths = {t: max(len(t), *(len(v) for v in values)) for t, values in columns.items()}
    for row in [list(columns), *zip(*columns.values(), strict=True)]:
        cells = zip(row, widths.items(), strict=True)
        print("  ".join(c.ljust(w) if t in left else c.rjust(w) for c, (t, w) in cells).rstrip())
