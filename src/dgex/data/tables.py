"""Text tables whose first column holds ids: every cell stays the text it is.

pandas takes an id column of digits for numbers, which turns the ids ``007`` and ``1.10`` into 7
and 1.1; and the gene or sample ``NA`` into a missing value.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dgex.errors import DataError


def read_table(path: Path, delimiter: str = "\t", *, header: bool = True) -> pd.DataFrame:
    r"""Read a table as text, indexed by its first column.

    Parameters
    ----------
    path
        The file; ``.gz`` is unpacked.
    delimiter
        Between cells.
    header
        Whether the first line names the columns; else they are numbered from 0.

    Raises
    ------
    DataError
        The file is empty, is no text, or its lines do not fit its header.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "samples.tsv"
    >>> _ = path.write_text("sample\tstudy\n007\tNA\n")
    >>> read_table(path).to_dict()
    {'study': {'007': 'NA'}}
    """
    try:
        table = pd.read_csv(
            path,
            sep=delimiter,
            header=0 if header else None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (ValueError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as a table ({reason}).") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(
            f"{path}: the lines have more cells than the header. Name every column, the first too."
        )
    return table.fillna("").set_index(table.columns[0])
