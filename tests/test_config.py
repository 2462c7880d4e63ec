"""Options: known names, allowed values, and defaults in one place."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from dgex.config import (
    EvaluateConfig,
    PanelConfig,
    PredictConfig,
    PrepareConfig,
    TrainConfig,
    with_options,
)
from dgex.errors import UsageError

CONFIGS = [PrepareConfig, PanelConfig, TrainConfig, EvaluateConfig, PredictConfig]


@pytest.mark.parametrize("kind", CONFIGS)
def test_defaults_are_allowed_values(kind: type) -> None:
    assert with_options(kind(), {}) == kind()


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_field_is_described_in_the_docstring(kind: type) -> None:
    described = [line.strip() for line in (kind.__doc__ or "").splitlines()]
    for field in dataclasses.fields(kind):
        assert field.name in described


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_cannot_be_changed(kind: type) -> None:
    config = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.overwrite = True


def test_options_replace_fields_and_leave_the_config_alone() -> None:
    config = PrepareConfig(seed=1)
    changed = with_options(config, {"protocol": "paper", "group_by": "study"})
    assert (changed.protocol, changed.group_by, changed.seed) == ("paper", "study", 1)
    assert config == PrepareConfig(seed=1)


def test_an_unknown_option_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"seeds, sped: no such option\. .*protocol.*seed"):
        with_options(PrepareConfig(), {"seeds": 3, "sped": 1})


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (PrepareConfig(), {"protocol": "papr"}, "--protocol papr: no such protocol.*strict, paper"),
        (PrepareConfig(), {"protocol": None}, "--protocol None"),
        (PrepareConfig(), {"log2": True}, "--log2 True.*auto, yes, no"),
        (PrepareConfig(), {"external_moments": "test"}, "--external-moments test.*own, training"),
        (PrepareConfig(), {"missing_landmarks": ""}, "--missing-landmarks .*mean, infer"),
        (PrepareConfig(), {"orientation": "sideways"}, "--orientation sideways.*samples-by-genes"),
        (PrepareConfig(protocol="Strict"), {}, "--protocol Strict"),  # type: ignore[arg-type]
        (TrainConfig(), {"model": "forest"}, "forest: no such model.*mean, ols, ridge, lasso"),
        (TrainConfig(), {"device": "tpu"}, "--device tpu.*auto, cpu"),
        (PredictConfig(), {"standardize": "test"}, r"--standardize test.*one of own, training\.$"),
        (PredictConfig(), {"units": "tpm"}, "--units tpm"),
    ],
)
def test_a_value_that_is_no_choice_is_refused(
    config: PrepareConfig, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        with_options(config, options)


def test_an_optional_choice_may_be_left_open() -> None:
    assert with_options(PredictConfig(), {"ties": None}).ties is None
    assert with_options(PredictConfig(), {"ties": "unique"}).ties == "unique"


def test_errors_config_files_and_progress_import_nothing_heavy() -> None:
    """So that `dgex --help` answers at once."""
    code = (
        "import sys, dgex, dgex.config, dgex.errors, dgex.files, dgex.progress, dgex.blocks;"
        "heavy = {'numpy', 'pandas', 'h5py', 'torch', 'scipy', 'sklearn', 'anndata'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
