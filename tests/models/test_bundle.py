"""Model directories: what they hold, and every way in which they can be damaged."""

import json
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from dgex.errors import DataError, UsageError
from dgex.models.bundle import Bundle, _read_arrays
from dgex.models.card import model_card
from dgex.models.fit import train

NET = {"model": "dgex", "hidden_units": 5, "epochs": 3, "device": "cpu", "learning_rate": 0.05}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, write_dataset):
    """A net selected on an external set too, and a ridge, trained once."""
    folder = tmp_path_factory.mktemp("bundle")
    dataset = write_dataset(folder / "colon")
    train(dataset, folder / "net", select_on="gtex", **NET)
    train(dataset, folder / "ridge", model="ridge", penalties=(0.1, 1.0))
    return dataset, folder


@pytest.fixture
def net(trained, tmp_path):
    return shutil.copytree(trained[1] / "net", tmp_path / "net")


def test_what_a_net_directory_holds(trained):
    dataset, folder = trained
    path = folder / "net"
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    info = json.loads((path / "model.json").read_text())
    assert found == {
        "model.json",
        "weights.safetensors",
        "weights-gtex.safetensors",
        "training.tsv",
        "run.toml",
        "README.md",
        "preprocessing/landmarks.tsv",
        "preprocessing/targets.tsv",
        "preprocessing/preprocessing.safetensors",
    }
    assert info["files"] == {
        name: (path / name).stat().st_size for name in sorted(found - {"model.json"})
    }
    assert info["kind"] == "dgex"
    settings = dict(info["settings"])
    assert settings.pop("training_precision") in ("float32", "bf16")
    assert settings == {"hidden_layers": 1, "hidden_units": 5, "dropout": 0.1}
    assert info["dataset"] == {"name": "colon", "fingerprint": dataset.fingerprint}
    log = pd.read_csv(path / "training.tsv", sep="\t")
    for name, one in info["weights"].items():
        # The log's may be of weights rounded to bf16.
        assert one["mae"] == pytest.approx(log[f"mae_{name}"].min(), rel=1e-3)
        assert one["epoch"] == log[f"mae_{name}"].idxmin() + 1
    run = tomllib.loads((path / "run.toml").read_text())
    assert run["options"]["learning_rate"] == 0.05
    assert run["options"]["seed"] == 0
    assert run["inputs"]["dataset"]["name"] == str(dataset.path.resolve())
    assert {"python", "numpy", "torch"} <= set(run["versions"])
    assert not list(folder.glob("*.partial"))
    assert len({(path / name).stat().st_mode for name in found}) == 1


@pytest.mark.parametrize("name", ["validation", "gtex"])
def test_load_takes_the_weights_asked_for(trained, name):
    dataset, folder = trained
    bundle = Bundle.load(folder / "net", weights=name)
    assert bundle.weights == name
    assert bundle.weights_available == ("validation", "gtex")
    assert (bundle.kind, bundle.protocol, bundle.dataset_name) == ("dgex", "paper", "colon")
    assert bundle.dataset_fingerprint == dataset.fingerprint
    assert len(bundle.training_log) == 3
    profiles = dataset[name]
    error_nt = np.abs(bundle.predict(profiles.x_nl) - profiles.y_nt)[:, profiles.present_t]
    assert error_nt.mean() == pytest.approx(bundle.info["weights"][name]["mae"], rel=1e-5)
    assert bundle.preprocessor.targets.equals(dataset.targets)


def test_a_ridge_comes_back_with_its_table(trained):
    bundle = Bundle.load(trained[1] / "ridge")
    assert bundle.training_log is None
    assert list(bundle.model.validation_mae) == [0.1, 1.0]
    assert bundle.info["weights"]["validation"]["mae"] == pytest.approx(
        min(bundle.model.validation_mae.values()), rel=1e-4
    )


@pytest.mark.parametrize("model", ["net", "ridge"])
def test_the_card_says_what_it_is(trained, model):
    bundle = Bundle.load(trained[1] / model)
    text = (bundle.path / "README.md").read_text()
    assert text == model_card(bundle.info)
    assert f"{bundle.info['weights']['validation']['mae']:.4f}" in text
    for words in ("6 landmarks to 9 targets", "90 training profiles", "colon", "protocol paper"):
        assert words in text


def rewrite(path, **changes):
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | changes))


def spoil_weights(path, change):
    """Change the arrays and keep model.json in agreement with the file's size."""
    file = path / "weights.safetensors"
    arrays = load_file(file)
    change(arrays)
    save_file(arrays, file)
    info = json.loads((path / "model.json").read_text())
    info["files"]["weights.safetensors"] = file.stat().st_size
    (path / "model.json").write_text(json.dumps(info))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def garble(path):
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "model.json").unlink(), "not a whole Model: model.json is missing"),
        (lambda path: truncate(path / "model.json"), "model.json is damaged"),
        (lambda path: garble(path / "model.json"), "model.json is damaged"),
        (lambda path: (path / "model.json").write_text("[]"), "model.json is damaged"),
        (lambda path: rewrite(path / "model.json", format=99), "format 99; this dgex reads 1"),
        (lambda path: rewrite(path / "model.json", kind="forest"), "unknown kind forest"),
        (lambda path: rewrite(path / "model.json", files=None), "files is not a dict"),
        (lambda path: rewrite(path / "model.json", dataset={}), "model.json is damaged"),
        (lambda path: (path / "weights.safetensors").unlink(), "weights.safetensors missing"),
        (lambda path: truncate(path / "weights.safetensors"), "weights.safetensors missing or cut"),
        (lambda path: truncate(path / "training.tsv"), "training.tsv missing or cut off"),
        (lambda path: (path / "preprocessing/targets.tsv").unlink(), "targets.tsv missing"),
        (lambda path: garble(path / "weights.safetensors"), "weights.safetensors is damaged"),
        (lambda path: garble(path / "preprocessing/preprocessing.safetensors"), "is damaged"),
        (
            lambda path: spoil_weights(path, lambda arrays: arrays.pop("output.bias")),
            "does not hold the weights of a model of kind dgex",
        ),
        (
            lambda path: spoil_weights(
                path, lambda arrays: arrays.update({"hidden.0.weight": np.zeros((5, 4), "f4")})
            ),
            "infers 9 targets from 4 landmarks, but the gene tables beside it have 9 and 6",
        ),
    ],
)
def test_damage_is_one_line_that_names_the_file(net, damage, message):
    damage(net)
    with pytest.raises(DataError, match=message) as caught:
        Bundle.load(net)
    assert str(net) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_paths_and_weights(net, tmp_path):
    with pytest.raises(UsageError, match="no such Model"):
        Bundle.load(tmp_path / "nothing")
    with pytest.raises(DataError, match="not a whole Model"):
        Bundle.load(tmp_path)
    with pytest.raises(UsageError, match="no weights chosen on 1000g; it has validation, gtex"):
        Bundle.load(net, weights="1000g")


@pytest.mark.parametrize("kind", ["net", "ridge"])
def test_weights_are_read_as_the_library_reads_them(trained, kind):
    path = trained[1] / kind / "weights.safetensors"
    read, expected = _read_arrays(path), load_file(path)
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_weights_of_many_shapes_and_types_are_read(tmp_path):
    arrays = {
        "b": np.arange(6, dtype=np.float64).reshape(2, 3),
        "a": np.array(3.5, dtype=np.float32),
        "empty": np.empty((0, 4), dtype=np.float32),
        "c": np.array([[1, -2]], dtype=np.int64),
        "d": np.array([True, False]),
    }
    save_file(arrays, tmp_path / "x.safetensors")
    read = _read_arrays(tmp_path / "x.safetensors")
    for name, array in arrays.items():
        assert (read[name].shape, read[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(read[name], array)


def test_weights_are_in_memory_once(tmp_path):
    code = """
import resource, sys
from pathlib import Path
from dgex.models.bundle import _read_arrays
import numpy, safetensors
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
arrays = _read_arrays(Path(sys.argv[1]))
unit = 1 if sys.platform == "darwin" else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""
    save_file({"w": np.ones((100, 2**18), np.float32), "v": np.ones(9)}, tmp_path / "x")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 1.2 * 4 * 100 * 2**18


def test_the_fingerprint_tells_weights_and_preparation_apart(trained):
    dataset, folder = trained
    net, ridge = (Bundle.load(folder / name) for name in ("net", "ridge"))
    assert len({net.fingerprint, ridge.fingerprint, dataset.fingerprint}) == 3
    train(dataset, folder / "again", model="ridge", penalties=(0.1, 1.0))
    assert Bundle.load(folder / "again").fingerprint == ridge.fingerprint


def test_a_model_without_a_fingerprint_is_still_read(net):
    info = json.loads((net / "model.json").read_text())
    del info["fingerprint"], info["simulated"]
    (net / "model.json").write_text(json.dumps(info))
    bundle = Bundle.load(net)
    assert (bundle.fingerprint, bundle.trained_on_simulated) == (None, False)


def test_only_nets_infer_in_bf16(trained, monkeypatch):
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: True)
    folder = trained[1]
    assert Bundle.load(folder / "net", precision="bf16").precision == "bf16"
    assert Bundle.load(folder / "net").precision == "float32"
    assert Bundle.load(folder / "ridge", precision="auto").precision == "float32"
    with pytest.raises(UsageError, match="--precision bf16 is for nets"):
        Bundle.load(folder / "ridge", precision="bf16")
