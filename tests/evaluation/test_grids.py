"""Whole figures: a titled panel per set, a legend that fits."""

import io

import matplotlib
import pandas as pd
import pytest

from dgex.errors import UsageError
from dgex.evaluation.grids import density_figure, r_figure, scatter_figure, training_figure

MODELS = {"mean": ("mean", None), "ols": ("ols", 0.8), "net": ("dgex", 0.1)}
MANY = {f"model number {i}": ("dgex", 0.1 * i) for i in range(9)}


def render(figure):
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind)
        assert len(buffer.getvalue()) > 5000


@pytest.mark.parametrize("n_sets", [1, 2, 3, 4, 5])
def test_figures_have_a_titled_panel_per_set(make_evaluation, n_sets):
    sets = ("test", "validation", "gtex", "1000g", "agilent")[:n_sets]
    evaluation = make_evaluation(MODELS, sets, n=3)
    for figure in (
        density_figure(evaluation),
        r_figure(evaluation),
        scatter_figure(evaluation, "net", "ols"),
    ):
        assert [axes.get_title(loc="left") for axes in figure.axes] == list(sets)
        assert {axes.get_title(loc="right") for axes in figure.axes} == {"3 profiles"}


def test_many_models_and_sets_are_drawn_apart(make_evaluation):
    sets = ("validation", "test", "gtex", "1000g", "agilent")
    evaluation = make_evaluation(MANY, sets)
    for figure in (density_figure(evaluation), r_figure(evaluation)):
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list(MANY)
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        assert legend.x0 >= 0
        assert legend.x1 <= figure.bbox.width
        for axes in figure.axes:
            assert len(axes.lines) == 9
            assert axes.get_window_extent().width > 150
            assert not axes.get_window_extent().overlaps(legend)
    render(figure)


def test_models_without_r_are_not_in_the_legend_of_r(make_evaluation):
    figure = r_figure(make_evaluation(MODELS))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ols", "net"]


def test_training_figure_orders_its_sets(training_log):
    figure = training_figure({"net": training_log}, {"ols": "ols"}, ["train", "1000g"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["train", "1000g", "validation"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["net"]
    render(figure)


def test_training_logs_without_errors_are_refused():
    with pytest.raises(UsageError, match="training logs of net have no column mae_<set>"):
        training_figure({"net": pd.DataFrame({"epoch": [1]})}, {})


def test_names_are_taken_as_they_are(make_evaluation):
    odd = {"_a$b$c\\": ("ols", 0.5), "x" * 60: ("dgex", 0.1)}
    evaluation = make_evaluation(odd)
    figure = density_figure(evaluation)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["_a$b$c\\", "x" * 27 + "…"]
    render(figure)
    render(scatter_figure(evaluation, *reversed(odd)))


def test_one_gene_and_one_profile(make_evaluation):
    evaluation = make_evaluation({"ols": ("ols", 0.1), "net": ("dgex", 0.2)}, ("test",), 1, 1)
    for figure in (
        density_figure(evaluation),
        r_figure(evaluation),
        scatter_figure(evaluation, "net", "ols"),
    ):
        render(figure)


def test_nothing_global_is_touched(make_evaluation):
    before = dict(matplotlib.rcParams)
    render(density_figure(make_evaluation(MODELS)))
    assert dict(matplotlib.rcParams) == before
