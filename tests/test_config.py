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
)
from dgex.options import with_options

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


def test_errors_config_files_and_progress_import_nothing_heavy() -> None:
    """So that `dgex --help` answers at once."""
    code = (
        "import sys, dgex, dgex.config, dgex.errors, dgex.files, dgex.progress, dgex.blocks;"
        "heavy = {'numpy', 'pandas', 'h5py', 'torch', 'scipy', 'sklearn', 'anndata'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
