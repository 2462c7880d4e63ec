"""The report parsed: offline, escaped, and showing the numbers of the tables."""

import base64
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from dgex.errors import UsageError
from dgex.evaluation.report import make_figures, save_figures, write_report

MODELS = {"mean": ("mean", None), "ols": ("ols", 0.6), "net": ("dgex", 0.1)}
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Collects tags, text by element id, table rows, and checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.rows, self.open = [], [], [], []
        self.table = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.table = attributes.get("id") or attributes.get("class")
        if tag == "tr":
            self.rows.append((self.table, []))
        if tag in {"td", "th"}:
            self.rows[-1][1].append([attributes.get("class"), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][1][-1][1] += data

    def words(self):
        return " ".join(" ".join(self.text).split())

    def table_rows(self, name):
        return [
            [(kind, " ".join(text.split())) for kind, text in cells]
            for table, cells in self.rows
            if table == name
        ]


def page_of(evaluation, tmp_path, **options):
    path = tmp_path / "report.html"
    # Drawing is slow: figures only where a test asks for them, with figures=None.
    given = {"title": "A report", "run": {"seed": 0}, "figures": {}, **options}
    write_report(evaluation, path, **given)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    return Page(path.read_text("utf-8"))


def test_it_needs_no_network(make_evaluation, training_log, tmp_path):
    page = page_of(
        make_evaluation(MODELS), tmp_path, figures=None, training_logs={"net": training_log}
    )
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "a"})
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in {"src", "href", "srcset", "poster", "data", "action"}:
                assert value.startswith("data:")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_figures_are_whole_and_described(make_evaluation, training_log, tmp_path):
    page = page_of(
        make_evaluation(MODELS), tmp_path, figures=None, training_logs={"net": training_log}
    )
    figures = [attributes["id"] for tag, attributes in page.tags if tag == "figure"]
    assert figures == ["figure-density", "figure-scatter", "figure-r", "figure-training"]
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 4
    for image in images:
        svg = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,"))
        assert svg.startswith(b"<?xml")
        assert svg.rstrip().endswith(b"</svg>")
        assert len(image["alt"]) > 40
    assert "under net (up) against ols (across)" in page.words()


def test_the_table_shows_the_numbers(make_evaluation, tmp_path):
    evaluation = make_evaluation(MODELS)
    rows = page_of(evaluation, tmp_path).table_rows("scores")
    assert [text for _, text in rows[0]] == [
        "Model",
        "MAE ± SD",
        "RMSE",
        "Median r",
        "MAE below OLS (%)",
        "Genes won (%)",
        "MAE, other genes",
    ]
    assert rows[1] == [(None, "validation 12 profiles, 40 targets")]
    assert rows[5] == [(None, "test 12 profiles, 39 targets; 1 target not measured, left out")]
    shown = {("validation", row[0][1].split()[0]): row[1:] for row in rows[2:5]}
    shown |= {("test", row[0][1].split()[0]): row[1:] for row in rows[6:9]}
    for row in evaluation.summary.itertuples():
        cells = [text for _, text in shown[row.set, row.model]]
        assert cells[0] == f"{row.mae:.4f} ± {row.mae_sd:.4f}"
        assert cells[1] == f"{row.rmse:.4f}"
        assert cells[2] == ("–" if row.model == "mean" else f"{row.median_r:.3f}")
        better = f"{row.improvement_over_ols_percent:+.1f}".replace("-", "−")
        won = f"{row.genes_won_over_ols_percent:.1f}"
        assert cells[3:5] == (["–", "–"] if row.model == "ols" else [better, won])
        assert cells[5] == f"{row.mae_other_genes:.4f}"
        best = [kind == "best" for kind, _ in shown[row.set, row.model]]
        expected = [True, True, True, False, False, True] if row.model == "net" else [False] * 6
        assert best == expected


def test_what_learned_from_a_set_is_not_marked_as_its_best(make_evaluation, tmp_path):
    evaluation = make_evaluation(MODELS)
    evaluation.info["learned_from"] = {"net": ["train", "validation"]}
    rows = page_of(evaluation, tmp_path).table_rows("scores")
    of_validation = {row[0][1].split()[0]: [kind for kind, _ in row[1:]] for row in rows[2:5]}
    assert "best" not in of_validation["net"]
    assert of_validation["ols"][:3] == ["best"] * 3
    of_test = {row[0][1].split()[0]: [kind for kind, _ in row[1:]] for row in rows[6:9]}
    assert of_test["net"][:3] == ["best"] * 3


def test_columns_without_a_value_are_left_out(make_evaluation, tmp_path):
    evaluation = make_evaluation({"net": ("dgex", 0.1)}, t=30, symbols=["x"] * 30)
    page = page_of(evaluation, tmp_path)
    headings = [text for _, text in page.table_rows("scores")[0]]
    assert headings == ["Model", "MAE ± SD", "RMSE", "Median r"]
    assert "no OLS was evaluated" in page.words()
    assert "†" not in page.words()
    assert not any(kind == "best" for row in page.table_rows("scores") for kind, _ in row)


def test_headline_comes_first_and_is_of_the_test_set(make_evaluation, tmp_path):
    page = page_of(make_evaluation(MODELS), tmp_path)
    text = page.words()
    assert text.index("On test (12 profiles, 39 targets) net is best") < text.index(
        "On validation (12 profiles, 40 targets) net is best"
    )
    assert text.index("On validation (") < text.index("Scores")


def test_a_loss_against_ols_is_said(make_evaluation, tmp_path):
    evaluation = make_evaluation({"ols": ("ols", 0.1), "net": ("dgex", 0.8)})
    page = page_of(evaluation, tmp_path)
    assert "On test (12 profiles, 39 targets) no model beats OLS" in page.words()
    bold = [row[0][1] for row in page.table_rows("scores") if "best" in dict(row[1:])]
    assert bold == ["ols", "ols"]


def test_best_and_hardest_genes(make_evaluation, tmp_path):
    evaluation = make_evaluation(MODELS, sets=("test", "gtex"), symbols=["L0", "L1"] * 20)
    rows = page_of(evaluation, tmp_path).table_rows("genes")
    genes = evaluation.genes.query("model == 'net' and set == 'test'").sort_values("mae")
    expected = [*genes.head(10).to_dict("records"), *genes.tail(10)[::-1].to_dict("records")]
    shown = [[text for _, text in row] for row in rows if row[0][1] != "Symbol"]
    assert shown == [
        [
            f"{gene['symbol']} †",
            gene["gene"],
            f"{gene['mae']:.4f}",
            f"{gene['r']:.3f}".replace("-", "−"),
        ]
        for gene in expected
    ]


def test_few_genes_are_in_one_list_each(make_evaluation, tmp_path):
    rows = page_of(make_evaluation(MODELS, t=5), tmp_path).table_rows("genes")
    ids = [row[1][1] for row in rows if row[0][1] != "Symbol"]
    assert len(ids) == len(set(ids)) == 4


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_the_protocol_is_explained(make_evaluation, tmp_path, protocol):
    text = page_of(make_evaluation(MODELS, protocol=protocol), tmp_path).words()
    assert f"protocol {protocol}" in text
    assert ("flatter every model" in text) == (protocol == "paper")
    assert ("learned on the training profiles alone" in text) == (protocol == "strict")
    assert "1 of the 40 targets are the same gene as a landmark" in text


def test_every_name_is_escaped(make_evaluation, training_log, tmp_path):
    evil = "<script>alert('&')</script>"
    evaluation = make_evaluation(
        {f"{evil}1": (evil, 0.4), f"{evil}2": ("dgex", 0.1)}, ("test", evil), symbols=[evil] * 40
    )
    evaluation.info["dataset"] = evaluation.info["fingerprint"] = evil
    page = page_of(
        evaluation,
        tmp_path,
        title=evil,
        figures=None,
        training_logs={evil: training_log},
        run={evil: evil, "group": {evil: [evil]}},
        notes=[evil],
    )
    assert "script" not in {tag for tag, _ in page.tags}
    # title twice, dataset, headline and verdict, …: as text, everywhere it should be.
    assert page.words().count(evil) > 30
    assert "<script" not in (tmp_path / "report.html").read_text("utf-8")


def test_what_was_run_and_notes(make_evaluation, tmp_path):
    run = {
        "sets": ["test", "gtex"],
        "seed": None,
        "net": {"hidden_units": 30000, "dropout": 0.25, "resume": False, "deep": {"n": 3000}},
    }
    page = page_of(make_evaluation(MODELS), tmp_path, run=run, notes=["One gene was dropped."])
    assert [[text for _, text in row] for row in page.table_rows("run")] == [
        ["sets", "test, gtex"],
        ["seed", "–"],
        ["net · hidden_units", "30,000"],
        ["net · dropout", "0.25"],
        ["net · resume", "no"],
        ["net · deep · n", "3000"],
        ["dataset fingerprint", "abc123"],
    ]
    assert page.words().count("One gene was dropped.") == 1


def test_training_table(make_evaluation, training_log, tmp_path):
    logs = {"net": training_log, "other": training_log.drop(columns="mae_validation")}
    page = page_of(make_evaluation(MODELS), tmp_path, training_logs=logs)
    rows = [[text for _, text in row] for row in page.table_rows("training")]
    assert rows[1:] == [
        ["net", "5", "4", "0.5000", "0.0005", "8"],
        ["other", "5", "–", "–", "0.0005", "8"],
    ]


def test_the_same_scores_give_the_same_bytes(make_evaluation, training_log, tmp_path):
    evaluation = make_evaluation(MODELS)
    for name in ("a", "b"):
        write_report(
            evaluation,
            tmp_path / name,
            title="x",
            run={},
            training_logs={"net": training_log},
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_saved_figures_serve_the_report(make_evaluation, training_log, tmp_path):
    evaluation, logs = make_evaluation(MODELS), {"net": training_log}
    figures = save_figures(evaluation, logs, tmp_path / "figures")
    names = ["density", "r", "scatter", "training"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    )
    for name in names:
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert min(image.size) > 500
        svg = (tmp_path / "figures" / f"{name}.svg").read_text("utf-8")
        assert re.search(r"<svg .*</svg>\s*$", svg, re.DOTALL)
    for given, name in ((figures, "given"), (None, "made")):
        write_report(
            evaluation,
            tmp_path / name,
            title="x",
            figures=given,
            training_logs=logs,
            run={},
        )
    assert (tmp_path / "given").read_bytes() == (tmp_path / "made").read_bytes()


def test_figures_that_cannot_be_drawn_are_left_out(make_evaluation, tmp_path):
    one = make_evaluation({"mean": ("mean", None)})
    assert list(make_figures(one, {})) == ["density"]
    page = page_of(one, tmp_path, figures=None)
    assert [attributes["id"] for tag, attributes in page.tags if tag == "figure"] == [
        "figure-density"
    ]


def test_an_unknown_figure_is_refused(make_evaluation, tmp_path):
    evaluation = make_evaluation({"mean": ("mean", None)})
    with pytest.raises(UsageError, match=r"no figure pie\. Known are density, scatter"):
        write_report(
            evaluation,
            tmp_path / "report.html",
            title="x",
            run={},
            figures={"pie": make_figures(evaluation, {})["density"]},
        )
    assert not (tmp_path / "report.html").exists()
