"""Each panel holds the lines, dots and words it should."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from dgex.evaluation.figures import (
    Style,
    draw_mae_density,
    draw_mae_scatter,
    draw_r_share,
    draw_training,
    model_styles,
)

MODELS = {"mean": ("mean", None), "ols": ("ols", 0.8), "net": ("dgex", 0.1)}


@pytest.fixture
def axes():
    return Figure().add_subplot()


def genes_of(evaluation, set_name):
    return evaluation.genes[evaluation.genes["set"] == set_name]


def test_styles_are_fixed_and_all_different():
    kinds = {"mean": "mean", "a": "ols", "b": "ols", **dict.fromkeys("cdefghijklmnopq", "dgex")}
    styles = model_styles(kinds)
    assert list(styles) == list(kinds)
    assert styles["a"] == Style("#1A1A1A")
    assert styles["mean"] == Style("#8C8C8C")
    assert styles["b"] == Style("#0072B2")
    assert len({(style.colour, style.dashes) for style in styles.values()}) == len(kinds)


def test_density_is_scipys(axes, make_evaluation):
    genes = genes_of(make_evaluation(MODELS), "test")
    draw_mae_density(genes, axes, model_styles({"ols": "ols", "net": "dgex"}))
    assert [line.get_gid() for line in axes.lines] == ["ols", "net"]
    for line in axes.lines:
        mae = genes.loc[genes["model"] == line.get_gid(), "mae"]
        across, up = line.get_data()
        np.testing.assert_allclose(up, gaussian_kde(mae)(across))
        assert len(across) == 256
    assert to_hex(axes.lines[0].get_color()) == "#1a1a1a"
    assert "standardised units" in axes.get_xlabel()
    assert axes.get_ylabel() == "Density of genes"


def test_density_of_genes_that_are_all_equal_is_a_vertical_line(axes):
    genes = pd.DataFrame({"model": ["a", "a", "b"], "mae": [0.4, 0.4, 0.7]})
    draw_mae_density(genes, axes, model_styles({"a": "dgex", "b": "dgex"}))
    assert [line.get_xdata() for line in axes.lines] == [[0.4, 0.4], [0.7, 0.7]]


def test_scatter_has_every_gene_the_diagonal_and_the_share(axes, make_evaluation):
    genes = genes_of(make_evaluation(MODELS), "test")
    shuffled = genes.sample(frac=1, random_state=0)
    draw_mae_scatter(shuffled, axes, "net", "ols", "#0072B2")
    dots = axes.collections[0].get_offsets()
    by_model = {name: rows.set_index("gene")["mae"] for name, rows in genes.groupby("model")}
    expected = sorted(
        (by_model["ols"][gene], by_model["net"][gene]) for gene in by_model["ols"].index
    )
    np.testing.assert_allclose(sorted(map(tuple, dots)), expected)
    diagonal = axes.lines[0]
    assert diagonal.get_gid() == "diagonal"
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    share = 100 * np.mean([up < across for across, up in expected])
    assert f"net lower in\n{share:.1f} % of genes" in axes.texts[0].get_text()
    assert axes.get_xlabel() == "MAE of ols\n(standardised units)"
    assert axes.get_ylabel() == "MAE of net\n(standardised units)"
    assert axes.get_xlim() == axes.get_ylim()


def test_scatter_counts_genes_beyond_its_edge(axes):
    mae = np.linspace(0.1, 1.0, 1000)
    mae[7] = 50.0
    genes = pd.DataFrame(
        {"model": ["a"] * 1000 + ["b"] * 1000, "gene": [*range(1000)] * 2, "mae": [*mae, *mae]}
    )
    draw_mae_scatter(genes, axes, "a", "b", "red")
    assert axes.texts[0].get_text() == "a lower in\n0.0 % of genes\n(1 lies outside)"
    assert axes.get_xlim()[1] < 2


def test_r_share_by_counting(axes, make_evaluation):
    genes = genes_of(make_evaluation(MODELS), "test").copy()
    genes.loc[genes.index[-5:], "r"] = np.nan
    draw_r_share(genes, axes, model_styles({"mean": "mean", "ols": "ols", "net": "dgex"}))
    assert [line.get_gid() for line in axes.lines] == ["ols", "net"]
    for line in axes.lines:
        r_t = genes.loc[genes["model"] == line.get_gid(), "r"].tolist()
        for across, up in zip(*line.get_data(), strict=True):
            assert up == pytest.approx(100 * sum(r >= across for r in r_t) / len(r_t))


def test_training_curve_and_the_epoch_kept(axes, training_log):
    draw_training({"net": training_log}, axes, "train", model_styles({"net": "dgex"}))
    curve, dot = axes.lines
    np.testing.assert_allclose(curve.get_ydata(), [0.7, 0.6, 0.5, 0.4, 0.3])
    assert (dot.get_xdata().tolist(), dot.get_ydata().tolist()) == ([4], [0.4])
    assert axes.get_xlabel() == "Epoch"
    assert axes.get_ylabel() == "MAE (standardised units)"


def test_training_curve_of_a_set_measured_now_and_then(axes, training_log):
    draw_training({"net": training_log}, axes, "1000g", model_styles({"net": "dgex"}))
    curve, dot = axes.lines
    assert curve.get_xdata().tolist() == [1, 3, 5]
    assert dot.get_xdata().tolist() == []


def test_training_log_without_validation_has_no_dot(axes, training_log):
    log = training_log.drop(columns="mae_validation")
    draw_training({"a": log, "b": log}, axes, "train", model_styles({"a": "dgex", "b": "dgex"}))
    assert [line.get_gid() for line in axes.lines] == ["a", "b"]
    draw_training({"a": log}, axes, "gtex", model_styles({"a": "dgex"}))
    assert len(axes.lines) == 2
