"""Time of fitting the linear models of D-GEX at the paper's size, beside scikit-learn.

88,807 training profiles, 943 landmarks, 9,520 targets, simulated: correlated landmarks, and targets
that depend on them non-linearly and with noise. `--scale` multiplies profiles and targets by its
root each.

scikit-learn gets all profiles but few targets. Its time is measured at two numbers of targets and
scaled along the straight line through them; its ridge, which has one penalty per fit, is also
multiplied by the number of penalties.

    python benchmarks/linear.py [--scale 0.1] [--folder /tmp] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from table import show

from dgex.config import RIDGE_PENALTIES, TrainConfig
from dgex.models.lasso import Lasso
from dgex.models.linear import OLS, Ridge, training_gram

N_TRAIN, N_VALIDATION, N_LANDMARKS, N_TARGETS = 88_807, 11_101, 943, 9_520
N_FACTORS = 100
CLOSED, LASSO = (100, 1000), (20, 100)  # numbers of targets that scikit-learn gets
Rows = list[dict[str, object]]


@dataclass
class Profiles:
    """What the models ask of a set of a Dataset, on memory-mapped arrays."""

    x_nl: np.ndarray
    y_nt: np.ndarray

    @property
    def n(self) -> int:
        """Number of profiles."""
        return len(self.x_nl)

    @property
    def present_t(self) -> np.ndarray:
        """Every target is measured."""
        return np.ones(self.y_nt.shape[1], dtype=bool)

    def blocks(self, rows: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """First row, landmarks and targets of each block."""
        for start in range(0, self.n, rows):
            block = slice(start, start + rows)
            yield start, np.array(self.x_nl[block]), np.array(self.y_nt[block])


class Simulated(dict[str, Profiles]):
    """What the models ask of a Dataset."""

    name = "simulated"

    def __init__(self, folder: Path, n_train: int, n_validation: int, n_targets: int) -> None:
        self.learned: dict[str, Any] = {}
        self.landmarks, self.targets = range(N_LANDMARKS), range(n_targets)
        rng = np.random.default_rng(0)
        # Factors of falling weight, as the principal components of expression have.
        strength_f = 1 / np.sqrt(1 + np.arange(N_FACTORS, dtype=np.float32))
        load_fl = rng.standard_normal((N_FACTORS, N_LANDMARKS), np.float32) * strength_f[:, None]
        load_ft = rng.standard_normal((N_FACTORS, len(self.targets)), np.float32)
        load_ft *= strength_f[:, None]
        for name, n in (("train", n_train), ("validation", n_validation)):
            arrays = [
                np.lib.format.open_memmap(folder / f"{name}_{axis}.npy", "w+", np.float32, shape)
                for axis, shape in (("x", (n, N_LANDMARKS)), ("y", (n, len(self.targets))))
            ]
            for start in range(0, n, 1024):
                rows = min(1024, n - start)
                factor_bf = rng.standard_normal((rows, N_FACTORS), np.float32)
                for array, load_fg in zip(arrays, (load_fl, load_ft), strict=True):
                    value_bg = np.tanh(0.4 * (factor_bf @ load_fg))
                    noise_bg = rng.standard_normal(value_bg.shape, np.float32)
                    array[start : start + rows] = 1.5 * value_bg + 0.6 * noise_bg
            self[name] = Profiles(*arrays)


def seconds_of(function: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def fitted(model: Any, dataset: Any, *, own: bool = True, **options: Any) -> tuple[Any, float]:
    """The fitted model and its seconds; `own`: with its own pass over the training profiles."""
    if own:
        dataset.learned.clear()
    config = TrainConfig(model=model.kind, **options)
    return model, seconds_of(lambda: model.fit(dataset, config))


def sklearn_seconds(
    make: Callable[[], Any], dataset: Simulated, weight_lt: np.ndarray, numbers: tuple[int, int]
) -> tuple[float, float]:
    """Seconds for all targets, by two measurements; greatest difference from `weight_lt`."""
    train = dataset["train"]
    x_nl = np.array(train.x_nl)
    measured = []
    for number in numbers:
        y_nt, model = np.array(train.y_nt[:, :number]), make()
        measured.append(seconds_of(lambda x=x_nl, y=y_nt, model=model: model.fit(x, y)))
    difference = float(np.abs(model.coef_.T - weight_lt[:, : numbers[1]]).max())
    each = max(measured[1] - measured[0], 0.0) / (numbers[1] - numbers[0])
    return measured[1] + each * (len(dataset.targets) - numbers[1]), difference


def measure(dataset: Simulated, penalty: float) -> Rows:
    """Rows of the table."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso as SklearnLasso
    from sklearn.linear_model import LinearRegression
    from sklearn.linear_model import Ridge as SklearnRidge

    rows: Rows = []

    def add(what: str, seconds: float, ours: float, difference: float | None = None) -> None:
        print(f"{what}: {seconds:.1f} s", flush=True)
        row = {"what": what, "seconds": seconds, "ratio": seconds / ours}
        rows.append({**row, "greatest_weight_difference": difference})

    products = seconds_of(lambda: training_gram(dataset))  # type: ignore[arg-type]
    add("dgex one pass of products", products, products)
    ols, ols_seconds = fitted(OLS(), dataset)
    add("dgex ols", ols_seconds, ols_seconds)
    # One validation profile: all the penalties are solved and next to nothing is predicted.
    validation = dataset["validation"]
    dataset["validation"] = Profiles(validation.x_nl[:1], validation.y_nt[:1])
    _, unpredicted = fitted(Ridge(), dataset)
    dataset["validation"] = validation
    number = len(RIDGE_PENALTIES)
    add(f"dgex ridge, {number} penalties, no predictions", unpredicted, unpredicted)
    ridge, ridge_seconds = fitted(Ridge(), dataset)
    add(f"dgex ridge, {number} penalties, chosen on validation", ridge_seconds, ridge_seconds)
    both = ols_seconds + ridge_seconds
    add("dgex ols + ridge, each with a pass", both, both)
    together = fitted(OLS(), dataset)[1] + fitted(Ridge(), dataset, own=False)[1]
    add("dgex ols + ridge, one pass for both", together, together)
    lasso, lasso_seconds = fitted(Lasso(), dataset, penalties=(penalty,))
    few = np.count_nonzero(lasso.weight_lt) / len(dataset.targets)
    add(f"dgex lasso, penalty {penalty:g}, {few:.0f} weights", lasso_seconds, lasso_seconds)

    note = "(from {} and {} targets)".format(*CLOSED)
    theirs, difference = sklearn_seconds(LinearRegression, dataset, ols.weight_lt, CLOSED)
    add(f"scikit-learn LinearRegression {note}", theirs, ols_seconds, difference)
    alpha = ridge.penalty * dataset["train"].n
    one, difference = sklearn_seconds(lambda: SklearnRidge(alpha), dataset, ridge.weight_lt, CLOSED)
    add(f"scikit-learn Ridge, {number} times one fit {note}", number * one, unpredicted, difference)
    add("scikit-learn LinearRegression + Ridge", theirs + number * one, ols_seconds + unpredicted)
    note = "(from {} and {} targets)".format(*LASSO)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ConvergenceWarning)
        theirs, difference = sklearn_seconds(
            lambda: SklearnLasso(penalty, precompute=True), dataset, lasso.weight_lt, LASSO
        )
    what = f"scikit-learn Lasso {note}, {len(warned)} of {sum(LASSO)} not converged"
    add(what, theirs, lasso_seconds, difference)
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--penalty", type=float, default=0.003, help="of the lasso")
    parser.add_argument("--folder", type=Path, help="where the arrays go, 3.7 GB at --scale 1")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        sizes = (round(n * arguments.scale**0.5) for n in (N_TRAIN, N_VALIDATION, N_TARGETS))
        dataset = Simulated(Path(folder), *sizes)
        rows = measure(dataset, arguments.penalty)
    about = (
        f"Linear models of {dataset['train'].n} profiles, {N_LANDMARKS} landmarks, "
        f"{len(dataset.targets)} targets; ratio: seconds over those of dgex for the same"
    )
    show("linear", rows, arguments.out, about=about)


if __name__ == "__main__":
    main()
