"""Rebuild the embedded demo data from the PyPI package TumorDecon 1.1.1.

Usage: python scripts/make_demo_data.py [--wheel TumorDecon-1.1.1-py3-none-any.whl]

Writes src/dgex/demo_data/tcga_coadread.gctx and the README.md beside it. Without --wheel the
wheel is downloaded with pip into a temporary folder. Running it twice gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import string
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from dgex.files import sha256_of, whole_file

REQUIREMENT = "TumorDecon==1.1.1"
WHEEL_SHA256 = "ff622444e5c6b02c04542cdbcabaf486c00a587c34ef6421f1c336a8e6f782ed"
MEMBER = "TumorDecon/data/coadred_data_RNA_Seq_v2_expression_median.txt"
OUT = Path(__file__).resolve().parents[1] / "src" / "dgex" / "demo_data" / "tcga_coadread.gctx"

DETECTED_RSEM = 10
DETECTED_SHARE = 0.5
N_GENES = 12_500
# Values are kept in steps of 1/128 (0.0078) of a log2 unit: finer than 0.01, exact in float32,
# and their trailing zero bits compress.
STEPS = 128
CHUNK = (592, 500)
MAX_BYTES = 10_000_000


def main() -> None:
    """Build the file and its README."""
    parser = argparse.ArgumentParser(description="Rebuild the embedded demo data.")
    parser.add_argument("--wheel", type=Path, help="the TumorDecon 1.1.1 wheel, else downloaded")
    wheel = parser.parse_args().wheel

    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            wheel = download_wheel(Path(folder))
        if sha256_of(wheel) != WHEEL_SHA256:
            sys.exit(f"{wheel} is not the wheel of {REQUIREMENT}: its SHA-256 differs.")
        with zipfile.ZipFile(wheel) as archive:
            text = Path(archive.extract(MEMBER, folder))
        counts = {"text_sha256": sha256_of(text)}
        table = pd.read_csv(text, sep="\t", dtype={"Entrez_Gene_Id": str})

    x_ng, var, samples = choose_genes(table, counts)
    with whole_file(OUT) as partial:
        write_gctx(partial, x_ng, var, samples)
        size = partial.stat().st_size
        if size > MAX_BYTES:
            sys.exit(f"{OUT.name} has {size:,} bytes, over {MAX_BYTES:,}. Keep fewer genes.")

    counts |= {
        "wheel_sha256": WHEEL_SHA256,
        "sha256": sha256_of(OUT),
        "values_sha256": hashlib.sha256(x_ng.astype("<f4").tobytes()).hexdigest(),
        "size": f"{size:,}",
    }
    with whole_file(OUT.with_name("README.md")) as partial:
        partial.write_text(README.substitute(counts), "utf-8")
    print(f"{OUT}: {x_ng.shape[0]} samples, {x_ng.shape[1]} genes, {size:,} bytes")


def download_wheel(folder: Path) -> Path:
    """Download the wheel, without what it depends on, into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), REQUIREMENT], check=True)
    return next(folder.glob("*.whl"))


def choose_genes(
    table: pd.DataFrame, counts: dict[str, str]
) -> tuple[np.ndarray, pd.DataFrame, list[str]]:
    """Expression of the genes that are kept, shape (n samples, g genes), and their names.

    Notes what was left out in `counts`, for the README.
    """
    samples = list(table.columns[2:])
    rsem_gn = table[samples].to_numpy(np.float64)
    missing_gn = np.isnan(rsem_gn)
    incomplete_g = missing_gn.any(axis=1)
    incomplete_n = missing_gn.any(axis=0)
    if missing_gn.all(axis=0).any():
        sys.exit("A sample has no value at all, which the README does not foresee.")
    if (missing_gn != np.outer(incomplete_g, incomplete_n)).any():
        sys.exit("The missing values are not one block, which the README does not foresee.")
    negative_gn = rsem_gn < 0
    if negative_gn[:, ~incomplete_n].any():
        sys.exit("A complete sample has negative values, which the README does not foresee.")

    rsem_gn = np.maximum(rsem_gn, 0)
    median_g = np.median(np.where(incomplete_g[:, None], 0, rsem_gn), axis=1)
    # NaN >= 10 is false, so the share is of all samples, measured or not.
    detected_g = (rsem_gn >= DETECTED_RSEM).mean(axis=1) >= DETECTED_SHARE
    named_g = table["Hugo_Symbol"].notna().to_numpy()
    ranked = pd.DataFrame({"symbol": table["Hugo_Symbol"], "median": -median_g})
    ranked = ranked[named_g & ~incomplete_g].sort_values("median", kind="stable")
    repeated = ranked["symbol"].duplicated()
    ranked = ranked[~repeated]
    detected = ranked.index[detected_g[ranked.index]]
    # Most expressed first: like beside like compresses a sixth better.
    kept = detected[:N_GENES].to_numpy()

    counts |= {
        "n_samples": str(len(samples)),
        "n_source_genes": f"{len(table):,}",
        "n_incomplete_samples": str(incomplete_n.sum()),
        "n_incomplete_genes": f"{incomplete_g.sum():,}",
        "n_missing": f"{missing_gn.sum():,}",
        "n_negative": f"{negative_gn.sum():,}",
        "n_negative_kept": f"{negative_gn[kept].sum():,}",
        "lowest": f"{np.nanmin(table[samples].to_numpy(np.float64)):.2f}",
        "n_unnamed": str((~named_g).sum()),
        "n_repeated": str(repeated.sum()),
        "n_detected": f"{len(detected):,}",
        "n_genes": f"{len(kept):,}",
    }
    log2_ng = np.log2(rsem_gn[kept].T + 1)
    x_ng = (np.round(log2_ng * STEPS) / STEPS).astype(np.float32)
    return x_ng, table.loc[kept, ["Hugo_Symbol", "Entrez_Gene_Id"]], samples


def write_gctx(path: Path, x_ng: np.ndarray, var: pd.DataFrame, samples: list[str]) -> None:
    """Write a GCTX with nothing in it that depends on when or where it is written."""
    with h5py.File(path, "w") as file:
        file.attrs["version"] = np.bytes_("GCTX1.0")
        file.attrs["src"] = np.bytes_(OUT.name)
        file.create_dataset(
            "0/DATA/0/matrix",
            data=x_ng,
            chunks=CHUNK,
            compression="gzip",
            compression_opts=9,
            shuffle=True,
            track_times=False,
        )
        text = {
            "COL/id": samples,
            "COL/patient": [sample[:12] for sample in samples],
            "ROW/id": list(var["Hugo_Symbol"]),
            "ROW/entrez": list(var["Entrez_Gene_Id"]),
        }
        for name, values in text.items():
            file.create_dataset(
                f"0/META/{name}", data=np.array(values, dtype="S"), track_times=False
            )


README = string.Template("""\
# Demo data: TCGA colorectal tumours

`tcga_coadread.gctx`: RNA-seq of $n_samples colorectal tumours (TCGA COAD and READ, one primary
tumour per patient), $n_genes genes. Written by `scripts/make_demo_data.py`, as is this text.

| | |
|---|---|
| values | log2(RSEM + 1), in steps of 1/128; float32; (samples, genes) |
| samples | `/0/META/COL/id`: TCGA barcode; `/0/META/COL/patient`: its first 12 characters |
| genes | `/0/META/ROW/id`: gene symbol; `/0/META/ROW/entrez`: Entrez gene id |
| size | $size bytes |

## Source and licence

The text file `coadred_data_RNA_Seq_v2_expression_median.txt` in the wheel of
[TumorDecon 1.1.1](https://pypi.org/project/TumorDecon/1.1.1/) (MIT licence): RSEM-normalised
"RNA Seq V2" expression of $n_source_genes genes, which are TCGA open-access data (The Cancer
Genome Atlas Network, *Comprehensive molecular characterization of human colon and rectal
cancer*, Nature 2012).

## What was done

1. **Missing values.** They are one block: $n_incomplete_samples of the $n_samples samples lack the
   same $n_incomplete_genes genes ($n_missing cells). These genes are left out; no sample lacks
   everything, and all samples are kept.
2. **Negative values.** In the same $n_incomplete_samples samples, and only there,
   $n_negative values are below 0 (the lowest $lowest; $n_negative_kept of them in genes kept
   below), and none is exactly 0 as undetected genes are in the others: these samples were
   evidently adjusted to the rest upstream. Negative values are set to 0.
3. **Names.** $n_unnamed genes without a symbol are left out. Where two genes have one symbol
   ($n_repeated case, SLC35E2) the one with the higher median is kept.
4. **Expression.** $n_detected of the remaining genes have RSEM of at least 10 in at least half
   of the samples. Of these the $n_genes with the highest median are kept, highest first.
5. **Units.** log2(RSEM + 1), rounded to the nearest 1/128 (0.0078). No other normalisation.

## SHA-256

| of | |
|---|---|
| the wheel | $wheel_sha256 |
| the text file | $text_sha256 |
| tcga_coadread.gctx | $sha256 |
| its values, as little-endian float32, row by row | $values_sha256 |

The bytes of the file depend on the HDF5 and zlib inside h5py as well, which `constraints.txt`
pins; its values do not.
""")


if __name__ == "__main__":
    main()
