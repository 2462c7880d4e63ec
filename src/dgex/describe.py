"""What a file, a Dataset, a Model or an evaluation is, in a few lines."""

from __future__ import annotations

from pathlib import Path

from dgex.config import Orientation
from dgex.errors import DataError, UsageError, name_list

Lines = list[tuple[str, str]]


def describe(path: str | Path, *, orientation: Orientation | None = None) -> Lines:
    """Name and value of each thing worth knowing about `path`.

    Raises
    ------
    DataError
        The file or folder cannot be read, or is none that dgex knows.
    UsageError
        There is nothing at `path`.

    Examples
    --------
    >>> from dgex import demo_data
    >>> dict(describe(demo_data.path()))["profiles"]
    '592'
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder.")
    if not path.is_dir():
        return _describe_matrix(path, orientation)
    if (path / "model.json").exists():
        return _describe_model(path)
    if (path / "evaluation.json").exists():
        return _describe_evaluation(path)
    if (path / "dataset.json").exists():
        return _describe_dataset(path)
    raise DataError(
        f"{path} is neither a Dataset, a Model nor an evaluation: it has no dataset.json, "
        "model.json or evaluation.json, or was cut off before it was whole."
    )


def _describe_matrix(path: Path, orientation: Orientation | None) -> Lines:
    from dgex.data.genes import gene_table, identifier_kind
    from dgex.data.matrix import open_matrix
    from dgex.data.scan import scan

    with open_matrix(path, orientation=orientation) as matrix:
        n, g = matrix.shape
        found = scan(matrix)
        identifiers = gene_table(matrix.var)
        known = [str(kind) for kind in identifiers if (identifiers[kind] != "").any()]
        kind = identifier_kind(list(matrix.var.index))
        n_missing = int(found.n_missing_p.sum())
        scale = "linear, it seems" if found.looks_linear else "log2 or standardised, it seems"
        return [
            ("file", str(path)),
            ("format", f"{matrix.format}, {matrix.dtype}"),
            ("profiles", str(n)),
            ("genes", str(g)),
            ("sample ids", name_list(matrix.obs.index)),
            ("gene ids", f"{name_list(matrix.var.index)} ({kind})"),
            ("gene identifiers", ", ".join(known)),
            ("sample columns", name_list(matrix.obs.columns, 10) or "none"),
            ("gene columns", name_list(matrix.var.columns, 10) or "none"),
            ("values", f"{found.low_p.min():g} to {found.high_p.max():g} ({scale})"),
            ("missing values", f"{n_missing} in {(found.n_missing_p > 0).sum()} genes"),
            ("constant genes", str(int(found.constant_p.sum()))),
        ]


def _describe_dataset(path: Path) -> Lines:
    from dgex.data.dataset import Dataset

    dataset = Dataset.open(path)
    lines = [
        ("Dataset", str(path)),
        ("protocol", dataset.protocol),
        ("landmarks", f"{len(dataset.landmarks)} ({name_list(dataset.landmarks.index)})"),
        ("targets", f"{len(dataset.targets)} ({name_list(dataset.targets.index)})"),
    ]
    for name in dataset.sets:
        one = dataset[name]
        absent = int((~one.present_l).sum()), int((~one.present_t).sum())
        missing = f", {absent[0]} landmarks and {absent[1]} targets absent" if any(absent) else ""
        lines.append((name, f"{one.n} profiles{missing}"))
    lines.append(("fingerprint", dataset.fingerprint))
    return lines + [("note", note) for note in dataset.notes]


def _describe_model(path: Path) -> Lines:
    from dgex.models.bundle import Bundle

    bundle = Bundle.load(path)
    settings = bundle.model.settings()
    units = {"standardised": "z-scores", "expression": "log2 expression"}
    origin = [
        ("trained on", f"{bundle.dataset_name} ({bundle.protocol} protocol)"),
        ("weights", ", ".join(bundle.weights_available)),
        ("fingerprint of the Dataset", bundle.dataset_fingerprint),
    ]
    if bundle.units == "expression":
        origin = [("read from", bundle.dataset_name), ("SHA-256", bundle.dataset_fingerprint)]
    if bundle.trained_on_simulated:
        origin.append(("note", "it learned from SIMULATED profiles"))
    shown = {name: value for name, value in settings.items() if not isinstance(value, (list, dict))}
    return [
        ("Model", str(path)),
        ("kind", bundle.kind),
        ("settings", ", ".join(f"{name} {value}" for name, value in shown.items()) or "none"),
        ("landmarks", str(len(bundle.preprocessor.landmarks))),
        ("targets", str(len(bundle.preprocessor.targets))),
        ("takes and gives", units[bundle.units]),
        *origin,
    ]


def _describe_evaluation(path: Path) -> Lines:
    from dgex.data.split import SPLITS
    from dgex.evaluation.tables import SUMMARY_FILE, Evaluation

    evaluation = Evaluation.load(path)
    info = evaluation.info
    scored = set(zip(evaluation.summary["model"], evaluation.summary["set"], strict=True))
    absent = [
        f"{model} on {one}"
        for one in info["sets"]
        for model in info["models"]
        if (model, one) not in scored and not (model in info["new_cohorts"] and one in SPLITS)
    ]
    if absent:
        raise DataError(
            f"{path / SUMMARY_FILE} has no scores of {name_list(absent)}: it was cut off. "
            "Evaluate again."
        )
    return [
        ("Evaluation", str(path)),
        ("Dataset", f"{info['dataset']} ({info['protocol']} protocol)"),
        ("models", ", ".join(info["models"])),
        ("sets", ", ".join(info["sets"])),
    ]
