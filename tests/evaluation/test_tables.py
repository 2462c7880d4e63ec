"""The tables of an evaluation come back from their folder as they were."""

import gzip
from dataclasses import FrozenInstanceError

import pandas as pd
import pytest

from dgex.errors import DataError
from dgex.evaluation.tables import Evaluation

MODELS = {"net": ("dgex", 0.1), "ümlaut, tab\t": ("ols", 0.4), "NA": ("mean", None)}
SYMBOLS = ["TP53", "NA", "", "nan", "KRAS", 'q"uo\tte', "x", "y"]
TABLES = ["evaluation.json", "genes.tsv.gz", "summary.tsv"]


@pytest.fixture
def evaluation(make_evaluation):
    return make_evaluation(MODELS, n=23, t=len(SYMBOLS), symbols=SYMBOLS)


def test_save_and_load_is_the_identity(evaluation, tmp_path):
    evaluation.save(tmp_path / "new" / "folder")
    loaded = Evaluation.load(tmp_path / "new" / "folder")
    pd.testing.assert_frame_equal(loaded.summary, evaluation.summary, check_exact=True)
    pd.testing.assert_frame_equal(loaded.genes, evaluation.genes, check_exact=True)
    assert loaded.info == evaluation.info
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == TABLES


def test_saving_twice_gives_the_same_bytes(evaluation, tmp_path):
    for folder in ("a", "b"):
        evaluation.save(tmp_path / folder)
    for name in TABLES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_evaluation_is_frozen(evaluation):
    with pytest.raises(FrozenInstanceError):
        evaluation.info = {}


def test_as_prepared_keeps_the_first_moments_of_every_set(evaluation):
    evaluation.info["sets"]["test"]["moments"] = "own"  # its scores are by training
    summary, genes = evaluation.as_prepared().summary, evaluation.as_prepared().genes
    first = evaluation.summary["set"] == "validation"
    pd.testing.assert_frame_equal(summary, evaluation.summary[first].reset_index(drop=True))
    assert set(genes["set"]) == {"validation"}


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def unzip(path):
    path.write_bytes(gzip.decompress(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("genes.tsv.gz", cut),
        ("genes.tsv.gz", unzip),
        ("summary.tsv", lambda path: path.write_text("")),
        ("summary.tsv", lambda path: path.write_text("model\tset\nnet\ttest\n")),
        ("summary.tsv", lambda path: path.write_text(path.read_text().replace("23", "many"))),
        ("evaluation.json", cut),
        ("evaluation.json", lambda path: path.unlink()),
    ],
)
def test_a_damaged_folder_is_refused(evaluation, tmp_path, name, damage):
    evaluation.save(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(DataError) as raised:
        Evaluation.load(tmp_path)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)
