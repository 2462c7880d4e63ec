"""From one matrix format to any other."""

from __future__ import annotations

from pathlib import Path

from dgex import progress
from dgex.config import Orientation
from dgex.data.matrix import create_matrix, open_matrix
from dgex.errors import UsageError


def convert(
    source: str | Path,
    out: str | Path,
    *,
    orientation: Orientation | None = None,
    overwrite: bool = False,
) -> tuple[int, int]:
    r"""Write the matrix in `source` to `out`, block by block; the endings tell the formats.

    Values keep their precision (float32 or float64), ids and tables go along as far as the format
    can hold them.

    Parameters
    ----------
    source, out
        Files to read and to write.
    orientation
        Orientation of a text table that is read.
    overwrite
        Replace `out` where it exists.

    Returns
    -------
    tuple of int
        Numbers of samples and genes.

    Raises
    ------
    DataError
        `source` cannot be read.
    UsageError
        `out` is the same file, exists, or has an ending that is no format.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> text = "id\tS1\tS2\nTP53\t1.5\t2\nMYC\t0\t4\nEGFR\t3\t1\n"
    >>> _ = (folder / "small.tsv").write_text(text)
    >>> convert(folder / "small.tsv", folder / "small.gctx", orientation="genes-by-samples")
    (2, 3)
    """
    source, out = Path(source), Path(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"{out} is the file to read. Choose another name to write.")
    with open_matrix(source, orientation=orientation) as matrix:
        n = matrix.shape[0]
        dtype = str(matrix.dtype)
        with create_matrix(out, matrix.obs, matrix.var, dtype=dtype, overwrite=overwrite) as writer:
            for start, x_bg in matrix.blocks():
                writer.write(x_bg)
                progress.report("converting", start + len(x_bg), n)
        return matrix.shape
