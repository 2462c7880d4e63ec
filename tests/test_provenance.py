"""run.toml says what made a folder, so that it can be made again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pytest

from dgex.config import PrepareConfig, TrainConfig
from dgex.errors import DgexError
from dgex.files import read_toml
from dgex.provenance import versions, write_run


def test_versions_are_those_installed() -> None:
    found = versions()
    for package in ("numpy", "torch", "dgex-torch"):
        assert found[package] == version(package)
    assert found["python"].startswith("3.")


def test_inputs_are_kept_by_path_and_hash(tmp_path: Path) -> None:
    source = tmp_path / "données 1.tsv"
    source.write_bytes(b"a\tb\n")
    write_run(
        tmp_path / "run.toml",
        "prepare",
        PrepareConfig(seed=7, group_by="study"),
        {
            "expression": source,
            "landmarks": "var:landmark",
            "external gtex": str(source),
            "external 1000g": anndata.AnnData(np.ones((2, 2), np.float32)),
            "ids": ["TP53"],
            "targets": None,
        },
    )
    run = read_toml(tmp_path / "run.toml")
    digest = hashlib.sha256(b"a\tb\n").hexdigest()
    assert run["inputs"] == {
        "expression": {"path": str(source), "sha256": digest},
        "landmarks": {"name": "var:landmark"},
        "external gtex": {"path": str(source), "sha256": digest},
        "external 1000g": {"name": "AnnData"},
        "ids": {"name": "list"},
    }
    assert run["verb"] == "prepare"
    assert run["versions"] == versions()
    assert datetime.fromisoformat(run["made"]).tzinfo is not None


@pytest.mark.parametrize("config", [PrepareConfig(), TrainConfig(learning_rate=1e-3)])
def test_options_come_back_as_the_same_config(tmp_path: Path, config: object) -> None:
    write_run(tmp_path / "run.toml", "prepare", config, {})
    options = read_toml(tmp_path / "run.toml")["options"]
    # The name on the command line is a word that Python keeps for itself.
    options = {"for_" if k == "for" else k: v for k, v in options.items()}
    as_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    assert type(config)(**as_tuples) == config


def test_what_the_program_chose_is_kept(tmp_path: Path) -> None:
    write_run(tmp_path / "run.toml", "predict", TrainConfig(), {}, resolved={"ties": "unique"})
    assert read_toml(tmp_path / "run.toml")["resolved"] == {"ties": "unique"}


@dataclass(frozen=True)
class Strange:
    value: object


def test_a_run_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises((TypeError, DgexError)):
        write_run(tmp_path / "run.toml", "prepare", Strange(object()), {})
    assert list(tmp_path.iterdir()) == []
