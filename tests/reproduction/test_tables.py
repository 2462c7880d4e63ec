import numpy as np
import pandas as pd
import pytest

from dgex.errors import DataError
from dgex.models.bundle import Bundle
from dgex.reproduction.grid import Point
from dgex.reproduction.tables import Results, gather, paper_table_of, table_of


def mae_by_loop(dataset, bundle, set_name):
    one = dataset[set_name]
    y_hat_nt = bundle.predict(np.asarray(one.x_nl))
    return np.array(
        [
            np.mean([abs(float(one.y_nt[i, t]) - float(y_hat_nt[i, t])) for i in range(one.n)])
            for t in np.flatnonzero(one.present_t)
        ]
    )


@pytest.mark.parametrize(("set_name", "weights"), [("test", "validation"), ("gtex", "1000g")])
def test_agrees_with_a_plain_loop_over_the_models(done, set_name, weights):
    dataset, out, tables = done
    table = tables[set_name]
    ols_t = mae_by_loop(dataset, Bundle.load(out / "models" / "ols"), set_name)
    for row in table.to_dict("records"):
        net = row["method"] == "dgex"
        name = row["method"]
        if net:
            percent = f"{100 * row['dropout']:g}"
            name = f"dgex-{row['hidden_layers']}x{row['hidden_units']}-dropout{percent}"
        bundle = Bundle.load(out / "models" / name, weights if net else "validation")
        mae_t = mae_by_loop(dataset, bundle, set_name)
        assert row["mae"] == pytest.approx(mae_t.mean(), rel=1e-6)
        assert row["mae_sd"] == pytest.approx(np.sqrt(np.mean((mae_t - mae_t.mean()) ** 2)), 1e-5)
        lower = 100 * (1 - mae_t.mean() / ols_t.mean())
        assert row["improvement_over_ols_percent"] == pytest.approx(lower, abs=1e-4)
        assert row["genes_won_over_ols_percent"] == pytest.approx(100 * np.mean(mae_t < ols_t))


@pytest.mark.parametrize(("set_name", "chooser"), [("test", "validation"), ("gtex", "1000g")])
def test_the_chosen_net_is_the_best_of_the_set_that_chooses(done, set_name, chooser):
    dataset, out, tables = done
    errors = {}
    for folder in (out / "models").glob("dgex-*"):
        bundle = Bundle.load(folder, chooser)
        errors[folder.name] = mae_by_loop(dataset, bundle, chooser).mean()
    best = min(errors, key=errors.get)
    chosen = tables[set_name][tables[set_name]["chosen"]]
    assert len(chosen) == 1
    row = chosen.iloc[0]
    percent = f"{100 * row['dropout']:g}"
    assert f"dgex-{row['hidden_layers']}x{row['hidden_units']}-dropout{percent}" == best


def test_the_written_tables_are_the_returned_ones(done):
    _, out, tables = done
    assert list(tables) == ["test", "gtex"]
    for name, table in tables.items():
        read = pd.read_csv(out / "tables" / f"{name}.tsv", sep="\t", float_precision="round_trip")
        assert list(read.columns) == list(table.columns)
        np.testing.assert_array_equal(read["mae"], table["mae"])
        assert read["chosen"].tolist() == table["chosen"].tolist()


def test_the_papers_numbers_stand_beside(done):
    *_, tables = done
    test = tables["test"].set_index("method")
    assert test.loc["lasso", ["paper_mae", "paper_mae_sd"]].tolist() == [0.3782, 0.0844]
    assert test.loc["dgex", "paper_mae"].isna().all()
    gtex = tables["gtex"].set_index("method")
    assert gtex.loc["gene-knn", "paper_mae"] == 0.6520
    assert np.isnan(gtex.loc["gene-knn", "paper_mae_sd"])


def fake(points, failures, errors, select_on=None):
    rows = [
        {"point": name, "weights": weights, "set": set_name, "mae": mae, "n_profiles": 3}
        for (name, weights, set_name), mae in errors.items()
    ]
    return Results(points, failures, pd.DataFrame(rows), select_on)


def test_a_failed_point_keeps_its_row_its_reason_and_the_papers_number():
    points = [Point("ols"), Point("dgex", 3, 9000, 0.1), Point("dgex", 1, 3000, 0.1)]
    errors = {
        ("ols", "validation", "test"): 0.5,
        ("dgex-1x3000-dropout10", "validation", "validation"): 0.45,
        ("dgex-1x3000-dropout10", "validation", "test"): 0.4,
    }
    table = table_of(fake(points, {"dgex-3x9000-dropout10": "no memory"}, errors), "test")
    assert table["failed"].tolist() == ["", "no memory", ""]
    assert table["mae"].isna().tolist() == [False, True, False]
    assert table["paper_mae"].tolist() == [0.3784, 0.3204, 0.3421]
    assert table.loc[1, "paper_improvement_over_ols_percent"] == 15.33
    assert table["chosen"].tolist() == [False, False, True]
    assert str(table["hidden_layers"].dtype) == "Int64"


def test_no_net_no_choice():
    points = [Point("ols"), Point("dgex", 1, 8, 0.1)]
    results = fake(points, {points[1].name: "diverged"}, {("ols", "validation", "test"): 0.5})
    assert results.chosen_net("test") is None
    assert not table_of(results, "test")["chosen"].any()


def test_the_set_that_chose_is_not_shown_as_chosen_by_validation():
    results = fake([], {}, {}, select_on="1000g")
    assert [results.chooser(name) for name in ("validation", "test", "gtex", "1000g")] == [
        "validation",
        "validation",
        "1000g",
        "1000g",
    ]


def test_without_ols_there_is_no_table(done, tmp_path):
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "ols.json").write_text('{"reason": "The disk is full."}')
    with pytest.raises(DataError, match=r"OLS failed.*The disk is full\."):
        gather(tmp_path, [Point("ols")], None)


def test_other_sets_have_no_table_in_the_paper():
    assert paper_table_of("1000g") is None
