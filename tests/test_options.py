"""Options by name: what is taken, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from dgex.config import EvaluateConfig, PredictConfig, PrepareConfig, TrainConfig
from dgex.errors import UsageError
from dgex.options import with_options


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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"penalties": 0.1}, (0.1,)),
        ({"penalties": np.array([0.1, 1.0])}, (0.1, 1.0)),
        ({"penalties": [1]}, (1,)),
        ({"penalties": None}, None),
        ({"neighbours": np.int64(3)}, (3,)),
        ({"kernels": "rbf"}, ("rbf",)),
        ({"members": "runs/ridge"}, (Path("runs/ridge"),)),
        ({"members": [Path("a"), Path("b")]}, (Path("a"), Path("b"))),
        ({"dropout": np.float32(0.5)}, 0.5),
        ({"seed": np.int64(4)}, 4),
    ],
)
def test_a_single_value_stands_for_a_tuple_of_one(
    options: dict[str, object], expected: object
) -> None:
    (name,) = options
    assert getattr(with_options(TrainConfig(), options), name) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 60}, "--budget 60: give a text"),
        ({"dropout": "0.1"}, "--dropout '0.1': give a number"),
        ({"seed": None}, "--seed None: give a whole number"),
        ({"seed": 1.5}, r"--seed 1\.5: give a whole number"),
        ({"seed": True}, "--seed True: give a whole number"),
        ({"resume": 1}, "--resume 1: give True or False"),
        ({"neighbours": (2.5,)}, r"--neighbours 2\.5: give a whole number"),
        ({"penalties": ("a",)}, "--penalties 'a': give a number"),
        ({"penalties": "0.1"}, "--penalties '0.1': give a number"),
        ({"members": (3,)}, "--members 3: give a path"),
        ({"target_range": (0, 3)}, r"--target-range \(0, 3\): give a text"),
    ],
)
def test_a_value_of_another_type_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_options(TrainConfig(), options)


@pytest.mark.parametrize("config", [PrepareConfig(), TrainConfig(), EvaluateConfig()])
def test_all_defaults_are_of_their_own_type(config: PrepareConfig) -> None:
    assert with_options(config, vars(config)) == config
