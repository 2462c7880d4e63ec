"""The Model directory: weights, how profiles are prepared for them, and where they come from.

It holds ``model.json``, ``weights.safetensors`` (the best on validation), perhaps
``weights-<set>.safetensors`` (the best on an external set), ``preprocessing/``, ``run.toml``,
``README.md`` (the model card) and, for nets, ``training.tsv``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from dgex.data.dataset import check_files, file_sizes
from dgex.data.preprocess import Preprocessor
from dgex.data.record import is_simulated
from dgex.data.split import SPLITS
from dgex.data.view import JOINED_FOLDER
from dgex.errors import DataError, UsageError, name_list
from dgex.files import sha256_of, write_json
from dgex.models.base import Model
from dgex.models.card import model_card
from dgex.models.checkpoint import CHECKPOINT_FILE, Best
from dgex.models.kinds import KINDS
from dgex.models.net_model import Net
from dgex.provenance import write_run

if TYPE_CHECKING:
    from dgex.config import ImportConfig, TrainConfig
    from dgex.data.dataset import Dataset
    from dgex.models.device import Precision

FORMAT_VERSION = 1
MODEL_FILE, LOG_FILE, TRIED_FILE = "model.json", "training.tsv", "tried.tsv"
REMEDY = "Train the Model again."

_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


@dataclass(frozen=True, repr=False)
class Bundle:
    """A trained Model with all that it needs to infer profiles.

    Attributes
    ----------
    path
        Its directory.
    kind
        One of `dgex.models.kinds.KINDS`.
    model
        What infers targets from landmarks.
    preprocessor
        What brings profiles to the units that `model` takes.
    protocol
        Protocol of the Dataset it was trained on.
    dataset_name, dataset_fingerprint
        That Dataset.
    training_log
        A row per epoch (see `dgex.models.train.Trained`); None for models without epochs.
    tried
        What ``auto`` tried (see `dgex.models.auto.Auto`); None for a kind that was asked for.
    weights
        Name of the set on which these weights were the best.
    weights_available
        Names of the sets for which there are weights.
    info
        Content of ``model.json``.
    """

    path: Path
    kind: str
    model: Model
    preprocessor: Preprocessor
    protocol: str
    dataset_name: str
    dataset_fingerprint: str
    training_log: pd.DataFrame | None
    tried: pd.DataFrame | None
    weights: str
    weights_available: tuple[str, ...]
    info: dict[str, Any]

    @property
    def units(self) -> Literal["standardised", "expression"]:
        """What the model takes and gives: z-scores, or log2 expression."""
        return "expression" if self.info.get("units") == "expression" else "standardised"

    @property
    def fingerprint(self) -> str | None:
        """Identifies the content; None of a Model directory made before there was one."""
        return self.info.get("fingerprint")

    @property
    def trained_on_simulated(self) -> bool:
        """Whether it learned from profiles of ``dgex simulate``."""
        return bool(self.info.get("simulated", False))

    @property
    def trained_on_all(self) -> bool:
        """Whether it learned from validation and test too."""
        return self.info.get("train_on") == "all"

    @property
    def learned_splits(self) -> tuple[str, ...]:
        """The splits that it learned from."""
        if self.trained_on_all:
            return SPLITS
        both = self.info.get("train_on") == "train+validation"
        return ("train", "validation") if both else ("train",)

    @property
    def standardizes_output(self) -> bool:
        """Whether inferred genes get mean 0 and sd 1 over the profiles of a file by default."""
        return bool(self.info.get("standardize_output", False))

    @property
    def precision(self) -> Precision:
        """What it infers in: ``float32`` or ``bf16``."""
        return self.model.precision if isinstance(self.model, Net) else "float32"

    @property
    def for_new_cohorts(self) -> bool:
        """Whether it takes cohorts standardised by their own moments, and nothing else."""
        return self.model.for_new_cohorts

    def for_cohort(self, blocks: Iterable[np.ndarray], present_l: np.ndarray) -> Bundle:
        """The Model as it infers one cohort; see `dgex.models.base.Model.for_cohort`."""
        model = self.model.for_cohort(blocks, present_l)
        return self if model is self.model else dataclasses.replace(self, model=model)

    def predict(self, x_nl: np.ndarray) -> np.ndarray:
        """Inferred targets (n, t) of landmarks (n, l), both in the `units` of the model."""
        return self.model.predict(x_nl)

    def __repr__(self) -> str:
        genes = f"{len(self.preprocessor.landmarks)} -> {len(self.preprocessor.targets)} genes"
        return f"<Model {self.path}: {self.kind}, {genes}, trained on {self.dataset_name}>"

    @classmethod
    def load(
        cls, path: Path | str, weights: str = "validation", precision: str = "float32"
    ) -> Bundle:
        """Read a Model directory.

        Parameters
        ----------
        path
            The directory.
        weights
            Name of the set on which the weights to take were the best.
        precision
            ``bf16`` rounds the weights of a net and infers in bfloat16, ``auto`` does where the
            device is faster in it. All other models infer in float32.

        Raises
        ------
        UsageError
            There is no such directory, no such weights in it, or no such precision here.
        DataError
            It is not a whole Model: a file is missing, cut off, damaged or does not fit.
        """
        path = Path(path)
        info = _read_info(path)
        check_files(path, info["files"], REMEDY)
        preprocessor = Preprocessor.load(path / "preprocessing")
        available = tuple(info["weights"])
        if weights not in available:
            raise UsageError(
                f"{path} has no weights chosen on {weights}; it has {name_list(available)}."
            )
        weights_path = path / info["weights"][weights]["file"]
        model = _read_model(KINDS[info["kind"]], weights_path, info["settings"])
        genes = len(preprocessor.landmarks), len(preprocessor.targets)
        if (model.n_landmarks, model.n_targets) != genes:
            raise DataError(
                f"{weights_path} infers {model.n_targets} targets from {model.n_landmarks} "
                f"landmarks, but the gene tables beside it have {genes[1]} and {genes[0]}. {REMEDY}"
            )
        if isinstance(model, Net):
            model.infer_in(precision)
        elif precision == "bf16":
            raise UsageError(
                f"--precision bf16 is for nets; {path} is of kind {info['kind']}. Leave it out."
            )
        return cls(
            path=path,
            kind=info["kind"],
            model=model,
            preprocessor=preprocessor,
            protocol=info["protocol"],
            dataset_name=info["dataset"]["name"],
            dataset_fingerprint=info["dataset"]["fingerprint"],
            training_log=_read_table(path / LOG_FILE),
            tried=_read_table(path / TRIED_FILE),
            weights=weights,
            weights_available=available,
            info=info,
        )


def write_bundle(
    folder: Path,
    dataset: Dataset,
    config: TrainConfig,
    settings: dict[str, Any],
    best: dict[str, Best],
    training_log: pd.DataFrame | None = None,
    *,
    kind: str | None = None,
) -> None:
    """Fill a Model directory; ``model.json`` is written last.

    Parameters
    ----------
    folder
        The directory, which exists.
    dataset
        What the Model was trained on.
    config
        How it was trained.
    settings
        Settings of the model.
    best
        Weights by the set they were chosen on, ``validation`` among them.
    training_log
        A row per epoch, for nets.
    kind
        Kind of the model, where `config` does not say it.
    """
    inputs = {
        "dataset": str(dataset.path.resolve()),
        "dataset_fingerprint": dataset.fingerprint,
        "dataset_protocol": dataset.protocol,
        **{f"member_{number}": str(path) for number, path in enumerate(config.members)},
    }
    write_run(folder / "run.toml", "train", config, inputs)
    if training_log is not None:
        training_log.to_csv(folder / LOG_FILE, sep="\t", index=False)
    info = {
        "kind": kind or config.model,
        "settings": settings,
        "protocol": dataset.protocol,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "n_train": dataset["train"].n,
        "train_on": config.train_on,
        "standardize_output": config.standardize_output,
        "simulated": is_simulated(dataset.notes),
    }
    _write(folder, info, dataset.preprocessor, best)


def write_imported(
    folder: Path, model: Model, preprocessor: Preprocessor, source: Path, config: ImportConfig
) -> None:
    """Fill a Model directory with a model that takes and gives log2 expression, read from a file.

    Parameters
    ----------
    folder
        The directory, which exists.
    model, preprocessor
        The model and its genes.
    source
        The file.
    config
        Options.
    """
    write_run(folder / "run.toml", "import-cmap", config, {"weights": source})
    info = {
        "kind": model.kind,
        "settings": model.settings(),
        "protocol": "none",
        "dataset": {"name": source.name, "fingerprint": sha256_of(source)},
        "units": "expression",
    }
    _write(folder, info, preprocessor, {"validation": Best(float("nan"), None, model.arrays())})


def _write(
    folder: Path, info: dict[str, Any], preprocessor: Preprocessor, best: dict[str, Best]
) -> None:
    from safetensors.numpy import save_file

    weights = {}
    for name, one in best.items():
        file = "weights.safetensors" if name == "validation" else f"weights-{name}.safetensors"
        arrays = {key: np.ascontiguousarray(array) for key, array in one.arrays.items()}
        save_file(arrays, folder / file)
        # JSON has no NaN: the MAE on a set without profiles.
        mae = one.mae if np.isfinite(one.mae) else None
        weights[name] = {"file": file, "mae": mae, "epoch": one.epoch}
    preprocessor.save(folder / "preprocessing")
    info = {
        "format": FORMAT_VERSION,
        **info,
        "n_landmarks": len(preprocessor.landmarks),
        "n_targets": len(preprocessor.targets),
        "weights": weights,
    }
    (folder / "README.md").write_text(model_card(info), "utf-8")
    for weights_path in folder.rglob("*.safetensors"):
        # The library makes files that only their owner may read.
        shutil.copymode(folder / "run.toml", weights_path)
    # Not before all the rest is written: a full disk must not cost the training.
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / JOINED_FOLDER, ignore_errors=True)
    files = file_sizes(folder)
    write_json(folder / MODEL_FILE, info | {"fingerprint": _digest(folder), "files": files})


def _digest(folder: Path) -> str:
    """SHA-256 of the weights and of how profiles are prepared for them."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("weights*"), *(folder / "preprocessing").iterdir()]):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise UsageError(f"{path}: no such Model. Make one with dgex train.")
    file = path / MODEL_FILE
    if not file.is_file():
        if (path / "dataset.json").is_file():
            raise UsageError(f"{path} is a Dataset, not a Model. Name the folder of a Model.")
        raise DataError(f"{path} is not a whole Model: {MODEL_FILE} is missing. {REMEDY}")
    try:
        info = json.loads(file.read_text("utf-8"))
        version = info["format"]
        if version == FORMAT_VERSION:
            _check_info(info)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged ({error!r}). {REMEDY}") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{file} has format {version}; this dgex reads {FORMAT_VERSION}. {REMEDY}")
    return dict(info)


def _check_info(info: dict[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError where `load` could not go by it."""
    if info["kind"] not in KINDS:
        raise ValueError(f"unknown kind {info['kind']}")
    for key, kind in (("files", dict), ("settings", dict), ("weights", dict), ("protocol", str)):
        if not isinstance(info[key], kind):
            raise TypeError(f"{key} is not a {kind.__name__}")
    for key in ("name", "fingerprint"):
        info["dataset"][key]
    unlisted = [one["file"] for one in info["weights"].values() if one["file"] not in info["files"]]
    if unlisted:
        raise ValueError(f"{name_list(unlisted)} not among its files")


def _read_model(kind: type[Model], path: Path, settings: dict[str, Any]) -> Model:
    from safetensors import SafetensorError

    try:
        return kind.from_arrays(_read_arrays(path), settings)
    except SafetensorError as error:
        raise DataError(f"{path} is damaged ({error}). {REMEDY}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} does not hold the weights of a model of kind {kind.kind} ({error}). {REMEDY}"
        ) from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file, each once in memory: the library would hold it twice."""
    from safetensors import SafetensorError, safe_open

    # The library checks the header, which says where in the rest of the file each array lies.
    with safe_open(path, framework="numpy") as file:
        names = set(file.keys())
    with open(path, "rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(length))
        arrays = {}
        for name in sorted(names):
            one = header[name]
            if one["dtype"] not in _DTYPES:
                raise SafetensorError(f"{name} is of type {one['dtype']}")
            raw.seek(8 + length + one["data_offsets"][0])
            count = math.prod(one["shape"])
            array = np.fromfile(raw, _DTYPES[one["dtype"]], count)
            arrays[name] = array.reshape(one["shape"])
    return arrays


def _read_table(file: Path) -> pd.DataFrame | None:
    if not file.is_file():
        return None
    try:
        return pd.read_csv(file, sep="\t", float_precision="round_trip")
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}). {REMEDY}") from error
