"""Guesses of the way round, on identifiers as they occur."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import pytest

from dgex.data.formats.orientation import choose_orientation, gene_share, is_annotation


@pytest.mark.parametrize(
    "ids",
    [
        ["ENSG00000141510", "ENSG00000136997.11", "ENSMUSG00000059552"],
        ["217398_x_at", "1007_s_at", "AFFX-BioB-5_at"],
        ["7157", "4609", "1956"],
        ["TP53", "MYC", "EGFR", "HLA-A", "C1orf112", "MT-CO1"],
    ],
)
def test_genes_look_like_genes(ids):
    assert gene_share(ids) > 0.8


@pytest.mark.parametrize(
    "ids",
    [
        ["GSM275676", "GSM275677", "GSM275678"],
        ["NA18486", "NA18498", "HG00096"],
        ["TCGA-CS-4942-01A-01R-1470-07", "TCGA-CS-4943-01A-01R-1470-07"],
        ["GTEX-SNMC-0826-SM-4DM66", "GTEX-S32W-1126-SM-4AD5V"],
        ["LJP005_A375_24H_X1_B19:A03", "LJP005_A375_24H_X1_B19:A04"],
        ["SRR1039508", "SRR1039509"],
        ["S1", "S2", "S3", "S4"],
        ["0", "1", "2", "3"],
        ["0e30bd18-8e8b-4c52-aace-b5587c6df51a", "0f12d09f-f512-4a6a-95e2-c8942488f2ff"],
        [],
    ],
)
def test_samples_do_not(ids):
    assert gene_share(ids) < 0.5


def test_real_files_are_told_by_their_ids(data_dir):
    for name, samples, genes in (
        ("compendia/rnaseq_n1890.h5ad", "obs/sample", "var/symbol"),
        ("compendia/rnaseq_n1890.h5ad", "obs/sample", "var/entrez"),
        ("compendia/array_n1759.h5ad", "obs/sample", "var/ensembl"),
        ("external/rtcga_agilent.h5ad", "obs/sample", "var/symbol"),
        ("formats/test_l1000_highprecision.gctx", "0/META/COL/id", "0/META/ROW/id"),
        ("dgex-layout/GEO_U133_QNORM_n586x22268.gctx", "0/META/COL/id", "0/META/ROW/id"),
    ):
        with h5py.File(data_dir / name) as file:
            samples, genes = ([i.decode() for i in file[key][:]] for key in (samples, genes))
        assert gene_share(genes) > 0.8, name
        assert gene_share(samples) < 0.5, name


def test_rows_are_counted_only_where_ids_do_not_tell(caplog):
    caplog.set_level(logging.INFO, "dgex")

    def refuse():
        raise AssertionError("counted")

    path = Path("a.tsv")
    assert choose_orientation("samples-by-genes", ["TP53"], ["s_1"], refuse, path) == (
        "samples-by-genes"
    )
    assert caplog.messages == []
    assert choose_orientation(None, ["s_1"], ["TP53"], refuse, path) == "genes-by-samples"
    assert choose_orientation(None, ["a_1", "a_2"], ["b_1"], lambda: 1, path) == "samples-by-genes"
    assert choose_orientation(None, ["a_1", "a_2"], ["b_1"], lambda: 2, path) == "genes-by-samples"
    assert choose_orientation(None, ["TP53"], ["MYC"], lambda: 9, path) == "genes-by-samples"
    assert len(caplog.messages) == 4


def test_annotation_by_name_or_by_text():
    assert is_annotation("Hugo_Symbol", ["", ""])
    assert is_annotation("anything", ["kinase", "", "ligase"])
    assert not is_annotation("anything", ["", "NA"])
    assert not is_annotation("s1", ["1.5", "2"])
