"""What the command line shows while it works."""

from __future__ import annotations

import logging

import pandas as pd

from dgex import terminal


def test_log_lines_go_to_standard_error_and_warnings_say_so(capsys):
    reporter = terminal.LineProgress()
    handler = terminal.LogLines(reporter)
    for level, text in ((logging.INFO, "59 profiles"), (logging.WARNING, "few landmarks")):
        handler.emit(logging.LogRecord("dgex", level, "", 0, text, None, None))
    out, error = capsys.readouterr()
    assert out == ""
    assert error == "59 profiles\nwarning: few landmarks\n"


def test_a_progress_line_comes_only_after_ten_quiet_seconds(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    reporter = terminal.LineProgress()
    reporter.update("ranking", 1, 9)
    now[0] = 111.0
    reporter.update("ranking", 2, 9)
    reporter.update("ranking", 3, 9)
    now[0] = 120.0
    reporter.said()
    now[0] = 125.0
    reporter.update("ranking", 4, 9)
    assert capsys.readouterr().err == "ranking: 2 of 9\n"


def test_a_bar_appears_for_long_work_and_goes_when_it_is_done(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    reporter = terminal.TerminalProgress()
    reporter.update("ranking", 1, 9)
    assert reporter._bar is None
    now[0] = 0.6
    reporter.update("ranking", 2, 9)
    assert reporter._bar is not None
    reporter.update("ranking", 9, 9)
    assert reporter._bar is None


def test_the_moments_are_shown_where_they_differ(capsys):
    scores = {name: [0.25, 0.25] for name in terminal._SHOWN} | {
        "model": "ols",
        "set": ["test", "gtex"],
    }
    terminal.print_table(pd.DataFrame(scores | {"moments": ["training", "training"]}))
    assert "moments" not in capsys.readouterr().out
    terminal.print_table(pd.DataFrame(scores | {"moments": ["training", "own"]}))
    header, test, gtex, *rest = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["model", "set", "moments"]
    assert (test.split()[2], gtex.split()[2]) == ("training", "own")
    assert "by own moments of the set" in " ".join(rest)
