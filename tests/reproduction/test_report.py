import re

import pytest


@pytest.fixture(scope="module")
def page(done):
    return (done[1] / "report.html").read_text("utf-8")


def test_every_error_is_in_the_report(done, page):
    for table in done[2].values():
        for row in table.to_dict("records"):
            assert f"{row['mae']:.4f} ± {row['mae_sd']:.4f}" in page


def test_says_the_data_the_protocol_and_the_paper(done, page):
    dataset = done[0]
    assert "Dataset data · protocol paper" in page
    assert "6 landmarks → 9 targets" in page
    assert "15.33 % lower than LR, lower for 99.97 %" in page
    assert "445 in the paper" in page
    assert "quoted from memory of Chen et al. 2016, not confirmed" in page
    assert dataset.fingerprint in page


def test_marks_one_chosen_net_in_each_table(page):
    tables = re.findall(r'<table class="grid">.*?</table>', page, re.DOTALL)
    assert len(tables) == 2
    assert [table.count("◂") for table in tables] == [1, 1]


def test_needs_no_network(page):
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_shows_every_figure(page):
    names = re.findall(r'<figure id="figure-([^"]+)">', page)
    assert names == [
        "density",
        "scatter-ols",
        "scatter-gene-knn",
        "training",
        "width",
        "dropout",
        "weights",
        "hubs",
        "connections",
        "landmarks",
    ]
