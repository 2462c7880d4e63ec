"""Which way round a table lies, and which of its columns are no data.

TSV, CSV and parquet say neither. Genes are told by how identifiers look; what was decided
is logged, with the option that says otherwise.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from dgex.data.formats.cells import looks_numeric

log = logging.getLogger("dgex")

GENES_BY_SAMPLES = "genes-by-samples"
SAMPLES_BY_GENES = "samples-by-genes"
SAMPLE_IDS = 1000

# Leading columns of these names describe the row, even where they hold numbers.
ANNOTATIONS = frozenset(
    {
        "description",
        "symbol",
        "gene_symbol",
        "hugo_symbol",
        "hgnc_symbol",
        "gene_name",
        "genename",
        "gene_id",
        "geneid",
        "entrez",
        "entrezid",
        "entrez_id",
        "entrez_gene_id",
        "ensembl",
        "ensembl_id",
        "ensembl_gene_id",
        "biotype",
        "gene_biotype",
        "gene_type",
        "chr",
        "chrom",
        "chromosome",
        "start",
        "end",
        "strand",
        "length",
        "coord",
        "position",
    }
)

_GENE_ID = re.compile(r"ENS[A-Z]{0,4}[GT]\d{11}(\.\d+)?(_PAR_Y)?|\S+_at|[1-9]\d{0,8}")
_SYMBOL = re.compile(r"[A-Z][A-Z0-9]{1,11}(orf\d+)?([.-][A-Z0-9]{1,5})?")
# Samples of the usual archives, which would pass for gene symbols.
_SAMPLE_ID = re.compile(r"(GSM|SRR|SRX|SRS|ERR|ERX|ERS|DRR|SAMN|SAMEA|NA|HG|GTEX-|TCGA-)\d.*")


def gene_share(ids: Sequence[str]) -> float:
    """Share of identifiers that look like genes: Ensembl, Affymetrix, Entrez or symbols.

    Names that only count up (S1, S2, …; 0, 1, 2, …) do not.

    Examples
    --------
    >>> gene_share(["TP53", "MYC", "EGFR"]), gene_share(["S1", "S2", "S3"])
    (1.0, 0.0)
    """
    some = [str(name) for name in ids[:SAMPLE_IDS]]
    if all(name.isdecimal() for name in some):
        numbers = [int(name) for name in some]
        if all(later - earlier == 1 for earlier, later in itertools.pairwise(numbers)):
            return 0.0
    sure = [name for name in some if _GENE_ID.fullmatch(name)]
    symbols = [n for n in some if _SYMBOL.fullmatch(n) and not _SAMPLE_ID.fullmatch(n)]
    stems = {name.rstrip("0123456789") for name in symbols}
    if len(symbols) > 1 and len(stems) <= max(1, len(symbols) // 4):
        symbols = []
    return len({*sure, *symbols}) / max(1, len(set(some)))


def choose_orientation(
    given: str | None,
    columns: Sequence[str],
    rows: Sequence[str],
    count_rows: Callable[[], int],
    path: Path,
) -> str:
    """Which way round a table lies: as `given`, else as its ids look, else by its lengths.

    Parameters
    ----------
    columns, rows
        Identifiers of the columns, and of the first rows at least.
    count_rows
        Gives the number of rows; called only where the ids do not tell.
    """
    if given is not None:
        return given
    across, down = gene_share(columns) >= 0.5, gene_share(rows) >= 0.5
    if across != down:
        chosen = GENES_BY_SAMPLES if down else SAMPLES_BY_GENES
        ids = rows if down else columns
        why = f"{'row' if down else 'column'} ids such as {ids[0]} look like genes"
    else:
        n_rows = count_rows()
        chosen = GENES_BY_SAMPLES if n_rows >= len(columns) else SAMPLES_BY_GENES
        why = f"the ids do not tell, and there are {n_rows} rows and {len(columns)} columns"
    other = SAMPLES_BY_GENES if chosen == GENES_BY_SAMPLES else GENES_BY_SAMPLES
    log.info("%s: read as %s (%s); if that is wrong: --orientation %s", path, chosen, why, other)
    return chosen


def is_annotation(name: str, cells: Sequence[str]) -> bool:
    """Whether a leading column describes the rows: by its name, or because it holds text.

    A column of missing values only is data.

    Examples
    --------
    >>> is_annotation("Chr", ["1", "X"]), is_annotation("S1", ["1.5", "oops", "2.5"])
    (True, False)
    """
    return name.strip().lower() in ANNOTATIONS or looks_numeric(cells) is False
