"""The paper's own numbers, each with where it is known from."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

from dgex.reproduction.grid import Point

MICROARRAYS, RNASEQ = "geo", "gtex"
"""Names of the paper's two tables: its test microarrays and its RNA-seq profiles."""


@cache
def paper_numbers() -> pd.DataFrame:
    """Numbers of Chen et al. 2016, a row each.

    Columns: ``table`` (`MICROARRAYS` or `RNASEQ`), ``method``, ``hidden_layers``,
    ``hidden_units``, ``dropout`` (a share; NaN for methods without), ``quantity`` (``mae`` and
    ``mae_sd`` in standardised units, or a percentage as in an evaluation's summary), ``value``
    and ``source``.

    Examples
    --------
    >>> numbers = paper_numbers()
    >>> numbers[numbers["quantity"] == "improvement_over_ols_percent"]["value"].tolist()
    [15.33, 6.57]
    """
    with files("dgex.reproduction").joinpath("paper.tsv").open(encoding="utf-8") as file:
        return pd.read_csv(file, sep="\t")


def paper_number(table: str, point: Point, quantity: str) -> tuple[float, str] | None:
    """A number of the paper and its source, None where none is known.

    Examples
    --------
    >>> paper_number(MICROARRAYS, Point("dgex", 3, 9000, 0.1), "mae")
    (0.3204, 'Chen et al. 2016, confirmed')
    """
    rows = paper_numbers()
    rows = rows[
        (rows["table"] == table) & (rows["method"] == point.kind) & (rows["quantity"] == quantity)
    ]
    for column in ("hidden_layers", "hidden_units", "dropout"):
        own = getattr(point, column)
        rows = rows[rows[column].isna() if own is None else rows[column] == own]
    if rows.empty:
        return None
    return float(rows["value"].iloc[0]), str(rows["source"].iloc[0])
