"""How the accuracy benchmark makes one Dataset, trains one model and scores it.

The order is fixed here: `run_point` trains, in a process of its own that is told nothing but the
folder of the Dataset, and only then does `score` open the test and external sets, once per Model.
Nothing that is measured there comes back to any training: its results are written and only read to
make tables.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from accuracy_cases import (
    COMPENDIA,
    EXTERNALS,
    MODELS,
    QUICK_OPTIONS,
    Case,
    group_of,
    panel_size,
    random_panel,
    split_table,
    tables,
)
from table import machine, run

from dgex.data.dataset import Dataset, ProfileSet
from dgex.data.moments import Restandardised, standardisations
from dgex.evaluation.metrics import GeneErrors
from dgex.files import whole_directory, write_json
from dgex.models.bundle import Bundle
from dgex.provenance import versions

BLOCK = 1024
QUICK_PROFILES, QUICK_LANDMARKS, QUICK_TARGETS, QUICK_EXTERNAL = 300, 150, 300, 30
TRAINING_MOMENTS = " (training moments)"


@dataclass(frozen=True)
class Work:
    """Folders of the benchmark.

    Attributes
    ----------
    data
        The compendia and external sets.
    folder
        Where Datasets, Models and results go.
    quick
        Whether all is made small.
    """

    data: Path
    folder: Path
    quick: bool

    def point(self, case: Case, model: str) -> Path:
        """Where the results of a point are, once it is done."""
        return self.folder / "points" / case.name / model

    def log(self, case: Case, model: str) -> Path:
        """What the program said while it made a Dataset or trained a Model."""
        return self.folder / "logs" / case.name / f"{model}.log"

    def dataset(self, case: Case) -> Path:
        """The Dataset of a case; external sets are standardised by their own moments."""
        return self.folder / "datasets" / case.name

    def compendium(self, case: Case) -> Path:
        """Expression file of a case."""
        return self.data / COMPENDIA[case.compendium]


@contextlib.contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether no other process is at work on `path`; the claim ends with the process.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "point"
    >>> with claimed(path) as first, claimed(path) as second:
    ...     print(first, second)
    True False
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f".{path.name}.lock", "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def processor() -> str:
    """Processor, cores, memory and GPU of this machine."""
    import torch

    name = machine().partition(", load")[0]
    return f"{name}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else name


def dgex(words: list[str], log: Path) -> tuple[float, float]:
    """Seconds and peak memory (GB) of one call of the command line."""
    return run([sys.executable, "-m", "dgex.cli", *words], log=log)


def prepare(work: Work, case: Case) -> Path:
    """The Dataset of a case, made where it is not there yet."""
    out = work.dataset(case)
    with claimed(out, wait=True):
        if (out / "dataset.json").is_file():
            return out
        source = work.compendium(case)
        obs, _ = tables(source)
        split = out.with_suffix(".split.tsv")
        split_table(obs, case).rename("split").to_csv(split, sep="\t", index_label="sample")
        log = work.log(case, "prepare")
        words = ["prepare", str(source), "--split", str(split), "--group-by", "patient"]
        words += ["--drop-constant", "--overwrite"]
        if case.panel:
            words += ["--landmarks", str(_panel(work, case, split))]
        elif case.split == "patients" and case.profiles == 0:
            for name, path in EXTERNALS.items():
                words += ["--external", f"{name}={work.data / path}"]
        dgex([*words, "--out", str(out)], log)
    return out


def _panel(work: Work, case: Case, split: Path) -> Path:
    """File of a case's landmarks; all other genes are targets."""
    out = split.with_name(f"{case.name}.panel.tsv")
    _, var = tables(work.compendium(case))
    if case.panel != "dgex":
        out.write_text("\n".join(random_panel(var, case)) + "\n", "utf-8")
        return out
    words = ["panel", str(work.compendium(case)), "--split", str(split), "--overwrite"]
    words += ["--size", str(panel_size(var, case)), "--seed", str(case.seed), "--out", str(out)]
    dgex(words, work.log(case, "panel"))
    return out


def run_point(work: Work, case: Case, model: str) -> str:
    """Train a model on a case and score it; what there is to say of it."""
    out = work.point(case, model)
    with claimed(out) as mine:
        if not mine:
            return "another process is at it"
        if out.is_dir():
            return "done before"
        dataset = prepare(work, case)
        trained = work.folder / "models" / case.name / model
        # Whole trainings only: the seconds of one that was resumed would be too few.
        shutil.rmtree(trained, ignore_errors=True)
        options = QUICK_OPTIONS.get(model, MODELS[model]) if work.quick else MODELS[model]
        command = ["train", str(dataset), "--out", str(trained), "--overwrite"]
        command += [*shlex.split(options), "--seed", str(case.seed)]
        seconds, peak_gb = dgex(command, work.log(case, model))

        # From here on the Model exists, and the test and external sets are read.
        about = {
            **asdict(case),
            "model": model,
            "command": f"dgex train {options} --seed {case.seed}",
            "seconds": seconds,
            "peak_gb": peak_gb,
            "machine": processor(),
            "versions": versions(),
        }
        maes = score(work, case, trained, about, out)
        shutil.rmtree(trained)
    shown = ", ".join(f"{name} {mae:.4f}" for name, mae in maes.items() if "(" not in name)
    return f"{seconds:.0f} s, {peak_gb:.1f} GB, MAE: {shown}"


def scored_sets(
    dataset: Dataset, bundle: Bundle
) -> Iterator[tuple[str, ProfileSet | Restandardised, Bundle]]:
    """Sets that a Model is scored on, as `dgex evaluate` does: name, profiles and the Model.

    Models adapt to the landmarks of an external set; those for new cohorts are for sets by their
    own moments only.
    """
    if not bundle.for_new_cohorts:
        yield "test", dataset["test"], bundle
    for name in dataset.externals:
        for moments, one in standardisations(dataset, name).items():
            if moments == "own" or not bundle.for_new_cohorts:
                label = name if moments == "own" else name + TRAINING_MOMENTS
                landmarks = (x_bl for _, x_bl, _ in one.blocks(BLOCK))
                yield label, one, bundle.for_cohort(landmarks, one.present_l)


def score(
    work: Work, case: Case, trained: Path, about: dict[str, object], out: Path
) -> dict[str, float]:
    """Score a trained Model on test and the external sets and write it; MAE by set."""
    bundle, dataset = Bundle.load(trained), Dataset(work.dataset(case))
    profiles: list[pd.DataFrame] = []
    arrays: dict[str, np.ndarray] = {}
    maes: dict[str, float] = {}
    for label, one, model in scored_sets(dataset, bundle):
        present_t = np.asarray(one.present_t, dtype=bool)
        errors = GeneErrors(int(present_t.sum()))
        mae_n = np.empty(one.n)
        for start, x_bl, y_bt in one.blocks(BLOCK):
            y_bt, y_hat_bt = y_bt[:, present_t], model.predict(x_bl)[:, present_t]
            errors.update(y_bt, y_hat_bt)
            # In float64: a mean over thousands of float32 would lose the last digits shown.
            absolute_bt = np.abs(y_bt - y_hat_bt)
            mae_n[start : start + len(y_bt)] = absolute_bt.mean(axis=1, dtype=np.float64)
        scores = errors.scores()
        for key, score_t in (("mae", scores.mae_t), ("rmse", scores.rmse_t), ("r", scores.r_t)):
            whole_t = np.full(len(present_t), np.nan, dtype=np.float32)
            whole_t[present_t] = score_t
            arrays[f"{label}:{key}"] = whole_t
        maes[label] = float(mae_n.mean())
        obs = dataset[label.removesuffix(TRAINING_MOMENTS)].obs
        group_n = group_of(obs, case, label).to_numpy()
        columns = {"set": label, "profile": obs.index, "group": group_n, "mae": mae_n}
        profiles.append(pd.DataFrame(columns))
    arrays["sd"] = dataset.preprocessor.sd_g[len(dataset.landmarks) :].astype(np.float32)
    arrays["gene"] = dataset.targets.index.to_numpy().astype(str)
    about = about | {
        "kind": bundle.kind,
        "dataset_fingerprint": dataset.fingerprint,
        "n_train": dataset["train"].n,
        "n_landmarks": len(dataset.landmarks),
        "mae": maes,
    }
    with whole_directory(out) as folder:
        pd.concat(profiles).to_csv(
            folder / "profiles.tsv", sep="\t", index=False, float_format="%.6g"
        )
        np.savez_compressed(folder / "genes.npz", allow_pickle=False, **arrays)
        write_json(folder / "run.json", about)
    return maes


def forget(work: Work, case: Case, models: list[str]) -> None:
    """Delete the Dataset of a curve's case once all its models are done."""
    if case != case.base and all(work.point(case, model).is_dir() for model in models):
        shutil.rmtree(work.dataset(case), ignore_errors=True)


def failed(work: Work, case: Case, model: str) -> str:
    """Last line that the program said."""
    log = work.log(case, model)
    lines = log.read_text("utf-8").splitlines() if log.is_file() else []
    return lines[-1] if lines else "no word"


def quick_work(data: Path, folder: Path) -> Work:
    """Small excerpts of the compendia and external sets, made where they are not there yet."""
    work = Work(folder / "excerpts", folder, quick=True)
    import anndata

    rng = np.random.default_rng(0)
    genes: dict[str, None] = {}
    for path in (*COMPENDIA.values(), *EXTERNALS.values()):
        out = work.data / path
        if out.is_file():
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        whole = anndata.read_h5ad(data / path)
        if path in COMPENDIA.values():
            landmark_g = whole.var["landmark"].to_numpy(dtype=bool)
            columns = np.concatenate(
                [
                    np.flatnonzero(landmark_g)[:QUICK_LANDMARKS],
                    np.flatnonzero(~landmark_g)[:QUICK_TARGETS],
                ]
            )
            n = QUICK_PROFILES
            genes |= dict.fromkeys(whole.var_names[columns])
        else:
            columns, n = np.flatnonzero(whole.var_names.isin(list(genes))), QUICK_EXTERNAL
        rows = np.sort(rng.choice(whole.n_obs, min(n, whole.n_obs), replace=False))
        whole[rows][:, columns].write_h5ad(out)
    return work


def load_point(work: Work, case: Case, model: str) -> dict[str, object] | None:
    """What was written of a point, None where it is missing."""
    file = work.point(case, model) / "run.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else None
