"""A landmark panel chosen from data, as the L1000 authors chose theirs.

Genes are clustered by their expression over the training profiles; of each cluster the gene
nearest the centre becomes a landmark.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dgex.config import PanelConfig
from dgex.data.matrix import open_matrix
from dgex.data.record import Record
from dgex.data.samples import sample_table, split_profiles
from dgex.data.scan import choose_scale, scan
from dgex.errors import DataError, UsageError, name_list
from dgex.files import refuse_existing, whole_file
from dgex.options import with_options

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger("dgex")

# Distances between genes are carried by the leading components; clustering on these alone
# makes 943 clusters of 13,000 genes a matter of seconds and leaves out much of the noise.
COMPONENTS = 100
MAX_ITERATIONS = 50

# A spread below this share of the largest value is what rounding leaves of a constant gene.
CONSTANT_SHARE = 1e-7


def panel(
    expression: str | Path | AnnData,
    out: str | Path,
    *,
    config: PanelConfig | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Choose a landmark panel from the training part of a compendium.

    Parameters
    ----------
    expression
        A matrix of profiles in any supported format, or an AnnData.
    out
        Table of landmarks to write (TSV). The split goes beside it, with ``.split.tsv`` for its
        ending, so that ``prepare`` can be given the same one.
    config
        Options; see `dgex.config.PanelConfig`.
    **options
        Single options, replacing those of `config`.

    Returns
    -------
    pandas.DataFrame
        The panel; see `choose_panel`.

    Raises
    ------
    DataError
        The profiles cannot be used, or too few genes have no missing values and vary.
    UsageError
        The request is wrong, or `out` exists.
    """
    config = with_options(config or PanelConfig(), options)
    out = Path(out)
    read = [expression, config.obs, config.split]
    refuse_existing(out, config.overwrite, read)
    split_out = out.with_suffix(".split.tsv")
    refuse_existing(split_out, config.overwrite, read)
    with open_matrix(expression, orientation=config.orientation) as matrix:
        record = Record()
        split_n = split_profiles(sample_table(matrix, config), config, record)
        found = scan(matrix)
        complete_g = found.n_missing_p == 0
        if not complete_g.all():
            record.note(f"{(~complete_g).sum()} genes with missing values are no candidates.")
        transform = choose_scale(found, config.log2, record.note)
        rows = np.flatnonzero(split_n == "train")
        if len(rows) > config.max_profiles:
            rng = np.random.default_rng(config.seed)
            rows = np.sort(rng.choice(rows, config.max_profiles, replace=False))
        x_ng = transform(matrix.take(rows)[:, complete_g])
        gene_ids = matrix.var.index[complete_g]
        table = choose_panel(x_ng, list(gene_ids), size=config.size, seed=config.seed)
        record.note(
            f"{len(table)} landmarks chosen of {len(gene_ids)} genes on {len(rows)} profiles."
        )
        splits = pd.DataFrame({"split": split_n}, index=matrix.obs.index)
    with (
        whole_file(out, overwrite=config.overwrite) as partial,
        whole_file(split_out, overwrite=config.overwrite) as split_partial,
    ):
        table.to_csv(partial, sep="\t")
        splits[splits["split"] != ""].to_csv(split_partial, sep="\t")
    log.info("Use them with: dgex prepare … --landmarks %s --split %s", out, split_out)
    return table


def choose_panel(
    x_ng: NDArray[np.floating], gene_ids: Sequence[str], *, size: int, seed: int
) -> pd.DataFrame:
    """Choose `size` landmark genes, one per cluster of similarly expressed genes.

    Every gene is standardised over the profiles, so that the squared distance of two genes is
    2(1 - r), r their Pearson correlation; adding a constant to a gene or scaling it changes
    nothing. The genes are reduced to their 100 leading principal components where there are
    more profiles than that, clustered by k-means (k-means++ start) and, in the full space, the
    gene of each cluster that lies nearest the mean of the cluster is taken. The
    same input and seed give the same panel whatever the number of cores.

    Memory is about three copies of `x_ng` in float64. A few thousand profiles are enough to
    tell which genes go together: from a larger compendium pass a random sample of its rows.

    Parameters
    ----------
    x_ng
        Expression, shape (n profiles, g genes), log2 units. Training profiles only, or the
        panel has seen the profiles it is later judged on.
    gene_ids
        Unique names of the g genes.
    size
        Number of landmarks.
    seed
        Of the random start of the clustering.

    Returns
    -------
    pandas.DataFrame
        One row per landmark, index ``gene``, largest cluster first (among equals the gene
        that comes first in `gene_ids`). ``cluster_size``: genes in its cluster, itself
        included. ``mean_correlation``: mean Pearson r of the other genes of the cluster with
        the landmark; NaN where it is alone.

    Raises
    ------
    DataError
        Fewer than two profiles, missing or infinite values, repeated gene names, or fewer than
        `size` genes that vary. Genes that do not vary are never chosen.
    UsageError
        `size` is below 1, or `gene_ids` does not name every column.

    References
    ----------
    Subramanian et al., A Next Generation Connectivity Map: L1000 Platform and the First
    1,000,000 Profiles, Cell 2017, "Selection of landmark genes".

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> programme_nk = rng.normal(size=(50, 2))
    >>> x_ng = programme_nk[:, [0, 0, 0, 1]] + 0.1 * rng.normal(size=(50, 4))
    >>> panel = choose_panel(x_ng, ["CDK1", "MKI67", "TOP2A", "CD3E"], size=2, seed=0)
    >>> panel["cluster_size"].tolist()
    [3, 1]
    >>> panel.index[1]
    'CD3E'
    """
    genes = [str(gene) for gene in gene_ids]
    z_gn, columns = _standardise_genes(np.asarray(x_ng), genes, size)
    labels_g = _cluster(z_gn, size, seed)

    rows = []
    for members in _members(labels_g, size):
        z_mn = z_gn[members]
        # All genes have the same length: nearest the mean is largest dot product with it.
        best = int(np.argmax(z_mn @ z_mn.mean(axis=0)))
        correlation_m = np.delete(z_mn @ z_mn[best], best)
        mean_correlation = float(correlation_m.mean()) if len(correlation_m) else float("nan")
        rows.append((int(columns[members[best]]), len(members), mean_correlation))
    rows.sort(key=lambda row: (-row[1], row[0]))

    index = pd.Index([genes[column] for column, _, _ in rows], name="gene")
    return pd.DataFrame(
        {
            "cluster_size": [n_members for _, n_members, _ in rows],
            "mean_correlation": [mean for _, _, mean in rows],
        },
        index=index,
    )


def _standardise_genes(
    x_ng: NDArray[np.floating], genes: list[str], size: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Genes as rows of mean 0 and length 1, and the column of `x_ng` each of them was."""
    if size < 1:
        raise UsageError(f"A panel needs at least 1 gene, not {size}. Choose another size.")
    if x_ng.ndim != 2 or x_ng.shape[1] != len(genes):
        raise UsageError(
            f"{len(genes)} gene names do not fit expression of shape {x_ng.shape}. "
            "Pass one name per column."
        )
    repeated = pd.Index(genes)[pd.Index(genes).duplicated()].unique()
    if len(repeated):
        raise DataError(
            f"{len(repeated)} gene names are repeated ({name_list(repeated)}). Make them unique."
        )
    if x_ng.shape[0] < 2:
        raise DataError(f"A panel cannot be chosen from {x_ng.shape[0]} profiles. Pass at least 2.")
    bad_g = ~np.isfinite(x_ng).all(axis=0)
    if bad_g.any():
        names = name_list(genes[column] for column in np.flatnonzero(bad_g))
        raise DataError(
            f"{bad_g.sum()} genes have missing or infinite values ({names}). "
            "Leave them out or fill them in before choosing a panel."
        )

    z_gn = x_ng.T.astype(np.float64, order="C")
    largest_g = np.abs(z_gn).max(axis=1)
    z_gn -= z_gn.mean(axis=1, keepdims=True)
    varies_g = np.abs(z_gn).max(axis=1) > CONSTANT_SHARE * largest_g
    columns = np.flatnonzero(varies_g)
    if len(columns) < size:
        raise DataError(
            f"Only {len(columns)} of {len(genes)} genes vary over the profiles, too few for "
            f"{size} landmarks. Choose a smaller panel or pass more genes."
        )
    if len(columns) < len(genes):
        log.info("%d constant genes left out of the choice", len(genes) - len(columns))
        z_gn = z_gn[columns]
    z_gn /= np.linalg.norm(z_gn, axis=1, keepdims=True)
    return z_gn, columns


def _cluster(z_gn: NDArray[np.float64], size: int, seed: int) -> NDArray[np.intp]:
    """Cluster of each gene, 0 to size - 1, each cluster with at least one gene."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    # One thread: partial sums of several are added in the order in which they end, and a
    # panel must not depend on that.
    with threadpool_limits(1), warnings.catch_warnings():
        z_gk = z_gn
        if min(z_gn.shape) > COMPONENTS:
            left_gk, scale_k, _ = randomized_svd(z_gn, COMPONENTS, random_state=seed)
            z_gk = left_gk * scale_k
        # Fewer distinct genes than clusters: the empty ones are filled below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        k_means = KMeans(size, n_init=1, max_iter=MAX_ITERATIONS, random_state=seed)
        k_means.fit(z_gk.astype(np.float32))

    labels_g: NDArray[np.intp] = k_means.labels_.astype(np.intp)
    distance_g = np.linalg.norm(z_gk - k_means.cluster_centers_[labels_g], axis=1)
    _fill_empty_clusters(labels_g, distance_g, size)
    return labels_g


def _fill_empty_clusters(
    labels_g: NDArray[np.intp], distance_g: NDArray[np.float64], size: int
) -> None:
    """Give every empty cluster the gene farthest from its centre that is not alone there."""
    counts = np.bincount(labels_g, minlength=size)
    farthest_first = iter(np.argsort(-distance_g, kind="stable"))
    for empty in np.flatnonzero(counts == 0):
        gene = next(g for g in farthest_first if counts[labels_g[g]] > 1)
        counts[labels_g[gene]] -= 1
        counts[empty] = 1
        labels_g[gene] = empty


def _members(labels_g: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    """Genes of each cluster, in ascending order."""
    order = np.argsort(labels_g, kind="stable")
    bounds = np.searchsorted(labels_g[order], np.arange(1, size))
    return np.split(order, bounds)
