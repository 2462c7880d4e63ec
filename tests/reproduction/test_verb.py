import dataclasses
import json
import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest

from dgex.cli import run
from dgex.data.dataset import Dataset
from dgex.errors import DataError, UsageError
from dgex.evaluation.tables import Evaluation
from dgex.models.bundle import Bundle
from dgex.models.fit import train
from dgex.reproduction import points, verb
from dgex.reproduction.verb import reproduce

ONE_NET = {"hidden_layers": (1,), "hidden_units": (4,), "dropout": (0.1,), "epochs": 2}


def test_writes_all_that_it_promises(done):
    _, out, _ = done
    there = {str(path.relative_to(out)) for path in out.rglob("*")}
    assert not [name for name in there if "partial" in name]
    assert {"report.html", "run.toml", "scores.tsv", "tables/test.tsv", "tables/gtex.tsv"} <= there
    figures = ["density", "scatter-ols", "scatter-gene-knn", "training", "width", "dropout"]
    figures += ["weights", "hubs", "connections", "landmarks"]
    assert {f"figures/{name}.{kind}" for name in figures for kind in ("png", "svg")} <= there
    assert {"interpretation/hubs.tsv", "interpretation/strong_connections.tsv.gz"} <= there
    assert len(list((out / "models").iterdir())) == 5 + 8
    run_file = tomllib.loads((out / "run.toml").read_text())
    assert run_file["verb"] == "reproduce"
    assert run_file["options"]["hidden_units"] == [3, 8]


def test_scores_of_all_sets_and_choices_are_in_one_table(done):
    _, out, _ = done
    scores = pd.read_csv(out / "scores.tsv", sep="\t")
    assert len(scores) == (5 + 2 * 8) * 4
    assert set(scores["weights"]) == {"validation", "1000g"}


def test_called_again_it_trains_nothing(done, monkeypatch, tmp_path, options):
    dataset, out, tables = done
    copy = shutil.copytree(out, tmp_path / "out")
    (copy / "report.html").unlink()

    def again(*arguments, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(points, "train", again)
    found = reproduce(dataset, copy, **options)
    pd.testing.assert_frame_equal(found["test"], tables["test"])
    assert (copy / "report.html").read_bytes() == (out / "report.html").read_bytes()


def test_machines_share_the_work(done, make, tmp_path, options):
    dataset, _, tables = done
    out = tmp_path / "shared"
    names = ["ols", "dgex-1x8-dropout25", "dgex-2x3-dropout0"]
    for name in names:
        assert reproduce(dataset, out, only=(name,), **options) == {}
    assert not (out / "report.html").exists()
    assert sorted(path.name for path in (out / "models").iterdir()) == sorted(names)
    again = reproduce(dataset, out, **options)
    pd.testing.assert_frame_equal(again["gtex"], tables["gtex"])


def test_an_interrupted_run_ends_as_one_that_was_not(make, tmp_path, monkeypatch):
    dataset = make()
    whole = reproduce(dataset, tmp_path / "whole", **ONE_NET)

    def interrupted(*arguments, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("dgex.models.train.mae_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reproduce(dataset, tmp_path / "out", **ONE_NET)
    monkeypatch.undo()
    again = reproduce(dataset, tmp_path / "out", **ONE_NET)
    pd.testing.assert_frame_equal(again["test"], whole["test"])


def test_a_failed_point_is_told_and_the_rest_goes_on(make, tmp_path, monkeypatch):
    dataset = make()
    trained = points.train

    def sometimes(dataset, out, config, **options):
        if config.hidden_units == 5 or config.model == "lasso":
            raise DataError("Not enough <memory>: 900 GB are needed.")
        return trained(dataset, out, config, **options)

    monkeypatch.setattr(points, "train", sometimes)
    options = ONE_NET | {"hidden_units": (4, 5)}
    tables = reproduce(dataset, tmp_path / "out", **options)
    failed = tables["test"].set_index("method")["failed"]
    assert failed["lasso"] == "Not enough <memory>: 900 GB are needed."
    assert sorted(failed["dgex"]) == ["", failed["lasso"]]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Points that failed" in page
    assert "Not enough &lt;memory&gt;" in page


def test_all_nets_may_fail(make, tmp_path, monkeypatch):
    dataset = make()
    trained = points.train

    def baselines(dataset, out, config, **options):
        if config.model == "dgex":
            raise MemoryError
        return trained(dataset, out, config, **options)

    monkeypatch.setattr(points, "train", baselines)
    reproduce(dataset, tmp_path / "out", **ONE_NET)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "no net was trained" in page
    assert not (tmp_path / "out" / "interpretation").exists()


def test_refuses_other_options_and_other_datasets(done, make, options):
    dataset, out, _ = done
    with pytest.raises(UsageError, match="seed is 0 there, 1 here"):
        reproduce(dataset, out, **options, seed=1)
    with pytest.raises(UsageError, match="epochs is 4 there, None here"):
        reproduce(dataset, out, **{name: options[name] for name in options if name != "epochs"})
    with pytest.raises(UsageError, match="on another Dataset"):
        reproduce(make(seed=5), out, **options)


def test_refuses_folders_that_are_something_else(make, tmp_path):
    dataset = make()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="mine"):
            reproduce(dataset, tmp_path / "mine", **ONE_NET, overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    with pytest.raises(UsageError, match="data"):
        reproduce(dataset, dataset.path, **ONE_NET, overwrite=True)
    assert Dataset.open(dataset.path)["test"].n
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file"):
        reproduce(dataset, tmp_path / "file", **ONE_NET)


@pytest.mark.parametrize(
    "refused",
    [
        {"hidden_units": (10**12,)},
        {"seed": -1},
        {"device": "mps"},
        {"select_on": "lcl"},
        {"only": ("nosuch",)},
        {"hidden_units": (1_000_000,), "hidden_layers": (3,)},
    ],
)
def test_what_is_refused_overwrites_nothing(make, tmp_path, refused):
    dataset, out = make(), tmp_path / "out"
    reproduce(dataset, out, **ONE_NET, only=("ols",))
    with pytest.raises((UsageError, DataError)):
        reproduce(dataset, out, **ONE_NET | {"overwrite": True} | refused)
    with pytest.raises((UsageError, DataError)):
        reproduce(dataset, tmp_path / "new", **ONE_NET | refused)
    assert not (tmp_path / "new").exists()
    reproduce(dataset, out, **ONE_NET, only=("ols",))
    assert Bundle.load(out / "models" / "ols").kind == "ols"


@pytest.mark.parametrize("kind", ["dataset", "model", "file", "link"])
def test_overwrites_nothing_but_reproductions(make, tmp_path, kind):
    dataset = make()
    other = tmp_path / "other"
    if kind == "dataset":
        make("other", seed=4)
        (other / "run.toml").write_text('verb = "prepare"')
    elif kind == "model":
        train(dataset, other, model="ols")
    elif kind == "file":
        other.write_text("x")
    else:
        other.symlink_to(tmp_path / "gone" / "further")
    with pytest.raises((UsageError, DataError), match="other"):
        reproduce(dataset, other, **ONE_NET, only=("mean",), overwrite=True)
    assert other.exists() or other.is_symlink()
    assert kind != "model" or Bundle.load(other).kind == "ols"


def test_a_linked_folder_is_emptied_and_kept(make, tmp_path):
    dataset, out = make(), tmp_path / "out"
    reproduce(dataset, out, **ONE_NET, only=("mean",))
    (tmp_path / "link").symlink_to(out)
    reproduce(dataset, tmp_path / "link", **ONE_NET, only=("ols",), overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (out / "models").iterdir()] == ["ols"]


def test_all_machines_train_in_the_precision_of_the_first(make, tmp_path, monkeypatch):
    monkeypatch.setattr("dgex.models.device._seconds_ratio", lambda: 0.5)
    dataset, out = make(), tmp_path / "out"
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: True)
    reproduce(dataset, out, **ONE_NET, only=("dgex-1x4-dropout10",))
    net = Bundle.load(out / "models" / "dgex-1x4-dropout10")
    assert net.info["settings"]["training_precision"] == "bf16"
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: False)
    with pytest.raises(UsageError, match="are trained in bf16, for which this cpu has no"):
        reproduce(dataset, out, **ONE_NET)
    reproduce(dataset, tmp_path / "elsewhere", **ONE_NET, only=("ols",))
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: True)
    reproduce(dataset, tmp_path / "elsewhere", **ONE_NET)
    net = Bundle.load(tmp_path / "elsewhere" / "models" / "dgex-1x4-dropout10")
    assert net.info["settings"]["training_precision"] == "float32"


def test_overwrite_starts_again(make, tmp_path):
    dataset, out = make(), tmp_path / "out"
    reproduce(dataset, out, **ONE_NET, only=("mean",))
    reproduce(dataset, out, **ONE_NET | {"epochs": 3}, only=("ols",), overwrite=True)
    assert [path.name for path in (out / "models").iterdir()] == ["ols"]


def test_validation_may_choose_for_all(make, tmp_path):
    dataset = make()
    tables = reproduce(dataset, tmp_path / "out", **ONE_NET, select_on="validation")
    assert list(tables) == ["test", "gtex", "1000g"]
    scores = pd.read_csv(tmp_path / "out" / "scores.tsv", sep="\t")
    assert set(scores["weights"]) == {"validation"}


def test_without_external_sets(make, tmp_path):
    dataset = make(sizes={"train": 40, "validation": 12, "test": 12})
    tables = reproduce(dataset, tmp_path / "out", **ONE_NET)
    assert list(tables) == ["test"]


def test_refuses_an_unknown_set_to_select_on(make, tmp_path):
    with pytest.raises(UsageError, match="--select-on lcl: no such external set; data has gtex"):
        reproduce(make(), tmp_path / "out", **ONE_NET, select_on="lcl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lacking", ["validation", "test"])
def test_needs_held_out_profiles(make, tmp_path, lacking):
    sizes = {"train": 40, "validation": 12, "test": 12} | {lacking: 0}
    with pytest.raises(DataError, match=f"has no {lacking} profiles"):
        reproduce(make(sizes=sizes), tmp_path / "out", **ONE_NET)


def test_refuses_a_grid_that_the_disk_cannot_hold(make, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "free_bytes", lambda path: 1_500_000_000)
    # 36 nets; their weights: dropouts, two copies, layers by units, of 6 + 9 genes.
    weights = sum(u * 15 + (n - 1) * u * u for n in (1, 2, 3) for u in (3000, 6000, 9000))
    largest = 9000 * 15 + 2 * 9000**2
    needed = 4 * (4 * 2 * weights + 4 * largest)
    with pytest.raises(DataError, match=f"take {needed / 1e9:.0f} GB, .* has 2 GB for them"):
        reproduce(make(), tmp_path / "out")


def test_simulated_profiles_are_in_the_title(make, tmp_path):
    note = "Simulated profiles: 60 of 60 in x.gctx are from dgex simulate."
    reproduce(make(notes=[note]), tmp_path / "out", **ONE_NET)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "<h1>SIMULATED profiles. dgex: the tables and figures of D-GEX on data</h1>" in page


def test_the_command_line(done, capsys, tmp_path, options):
    dataset, out, _ = done
    flags = ["--grid", "small", "--hidden-layers", "1", "2", "--hidden-units", "3", "8"]
    flags += ["--dropout", "0", "0.25", "--epochs", "4"]
    copy = shutil.copytree(out, tmp_path / "out")
    assert run(["reproduce", str(dataset.path), "--out", str(copy), *flags]) == 0
    assert capsys.readouterr().out == f"Report: {copy / 'report.html'}\n"
    assert run(["reproduce", str(dataset.path), "--out", str(copy), *flags, "--seed", "2"]) == 2
    assert "with other options" in capsys.readouterr().err


def test_damaged_scores_are_said(done, tmp_path, options):
    dataset, out, _ = done
    copy = shutil.copytree(out, tmp_path / "out")
    file = copy / "scores" / "ridge" / "genes.tsv.gz"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=r"Remove .*scores/ridge; the next call scores it"):
        reproduce(dataset, copy, **options)
    shutil.rmtree(copy / "scores" / "ridge")
    tables = reproduce(dataset, copy, **options)
    pd.testing.assert_frame_equal(tables["test"], done[2]["test"])


def test_the_config_of_an_earlier_run_is_taken(done, tmp_path):
    dataset, out, _ = done
    again = ["reproduce", str(dataset.path), "--out", str(tmp_path / "again"), "--only", "mean"]
    assert run(["--config", str(out / "run.toml"), *again]) == 0
    found = Evaluation.load(tmp_path / "again" / "scores" / "mean")
    np.testing.assert_array_equal(
        found.genes["mae"], Evaluation.load(out / "scores" / "mean").genes["mae"]
    )
    assert json.loads((out / "scores" / "mean" / "evaluation.json").read_text())["sets"]


def test_every_option_that_must_agree_is_recorded():
    names = {field.name for field in dataclasses.fields(verb.ReproduceConfig)}
    assert names >= verb._MAY_DIFFER
