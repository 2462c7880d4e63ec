"""A training that was interrupted, in one file that is whole or not there."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from dgex.errors import DataError, UsageError, name_list
from dgex.files import whole_file

CHECKPOINT_FILE = "checkpoint.safetensors"

CHECKPOINT_SHARE = 0.5
"""Share of the time, at most, in which a checkpoint is being written."""

WAITED_SHARE = 0.1
"""Share of an epoch that the writing of its checkpoint may take for the training to wait for it."""


@dataclass(frozen=True)
class Best:
    """The weights at the lowest MAE on one set.

    Attributes
    ----------
    mae
        That MAE, in standardised units.
    epoch
        The epoch after which it was reached; None where there are no epochs.
    arrays
        Weights by name.
    """

    mae: float
    epoch: int | None
    arrays: dict[str, np.ndarray]


@dataclass
class Checkpoint:
    """All that a training goes on from; the random numbers of an epoch follow from its number.

    Attributes
    ----------
    identity
        What the training is of: another identity may not go on from here.
    epoch
        Epochs finished.
    learning_rate
        Learning rate of the next epoch.
    rows
        One row of the training log per epoch.
    weights, optimiser
        Weights, and what the optimiser goes by, by name.
    best
        Best weights by the set they were chosen on.
    averages
        Averages of the weights by name, where these are what is kept.
    """

    identity: dict[str, Any]
    epoch: int
    learning_rate: float
    rows: list[dict[str, float]]
    weights: dict[str, np.ndarray]
    optimiser: dict[str, np.ndarray]
    best: dict[str, Best] = field(default_factory=dict)
    averages: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``checkpoint.safetensors`` into `folder`, in place of the one before."""
        from safetensors.numpy import save_file

        arrays = {f"weights/{name}": array for name, array in self.weights.items()}
        arrays |= {f"optimiser/{name}": array for name, array in self.optimiser.items()}
        arrays |= {f"averages/{name}": array for name, array in self.averages.items()}
        for set_name, best in self.best.items():
            # Weights, or averages, that are the best so far would be the same arrays twice.
            if best.epoch == self.epoch:
                continue
            arrays |= {f"best/{set_name}/{name}": array for name, array in best.arrays.items()}
        state = {
            "identity": self.identity,
            "epoch": self.epoch,
            "learning_rate": self.learning_rate,
            "rows": self.rows,
            "best": {name: [best.mae, best.epoch] for name, best in self.best.items()},
        }
        # In the header of the same file: numbers and arrays cannot come from different epochs.
        with whole_file(folder / CHECKPOINT_FILE) as partial:
            save_file(arrays, partial, metadata={"state": json.dumps(state)})

    @classmethod
    def load(cls, folder: Path, identity: Mapping[str, Any]) -> Checkpoint:
        """Read what `save` wrote.

        Raises
        ------
        UsageError
            There is none, or it is of a training with another `identity`.
        DataError
            The file is damaged.
        """
        with _opened(folder) as file:
            state = json.loads(file.metadata()["state"])
            groups: dict[str, dict[str, np.ndarray]] = {}
            for key in file.keys():  # noqa: SIM118 - not a mapping
                group, _, name = key.rpartition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
        found = state["identity"]
        differing = [
            f"{key} is {found.get(key)} there, {identity.get(key)} here"
            for key in dict.fromkeys([*found, *identity])
            if found.get(key) != identity.get(key)
        ]
        if differing:
            raise UsageError(
                f"{folder} holds another training: {name_list(differing)}. "
                "Resume with the same Dataset and options, or start again with --overwrite."
            )
        kept = groups.get("averages", groups["weights"])
        return cls(
            identity=found,
            epoch=state["epoch"],
            learning_rate=state["learning_rate"],
            rows=state["rows"],
            weights=groups["weights"],
            optimiser=groups.get("optimiser", {}),
            best={
                name: Best(mae, epoch, groups.get(f"best/{name}", kept))
                for name, (mae, epoch) in state["best"].items()
            },
            averages=groups.get("averages", {}),
        )


def identity_in(folder: Path) -> dict[str, Any]:
    """The identity of the training whose checkpoint is in a folder.

    Raises
    ------
    UsageError
        There is none.
    DataError
        The file is damaged.
    """
    with _opened(folder) as file:
        return dict(json.loads(file.metadata()["state"])["identity"])


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[Any]:
    """The checkpoint in a folder; what goes wrong with its content is a damaged file."""
    from safetensors import SafetensorError, safe_open

    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise UsageError(f"{folder} holds no training to go on with. Leave out --resume.")
    try:
        with safe_open(path, "numpy") as file:
            yield file
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}). Train again with --overwrite.") from error


class CheckpointWriter:
    """Writes checkpoints beside the training: one at a time, and not all the time.

    Parameters
    ----------
    folder
        Where they go; nothing is written where not given.
    epoch
        Epochs that a checkpoint there has already.
    """

    def __init__(self, folder: Path | None, epoch: int) -> None:
        self._folder = folder
        self._epoch = epoch
        self._due = -math.inf
        self._seconds = 0.0
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def offer(self, epoch: int, make: Callable[[], Checkpoint], seconds: float) -> None:
        """Begin to write the state after `epoch`, if it is time and no other is being written.

        `make` runs in another thread. After an epoch of many `seconds`, next to which the last
        writing took little, its end is waited for: then a kill costs no more than the epoch under
        way. An error of the last writing is raised here.
        """
        if self._folder is None or (self._thread is not None and self._thread.is_alive()):
            return
        self.finish()
        if time.monotonic() >= self._due:
            self._thread = threading.Thread(target=self._write, args=(epoch, make))
            self._thread.start()
            if self._seconds < WAITED_SHARE * seconds:
                self.finish()

    def keep(self, epoch: int, make: Callable[[], Checkpoint]) -> None:
        """Write the state after `epoch` now, if it is not the one that is there."""
        self.finish()
        if self._folder is not None and epoch > self._epoch:
            make().save(self._folder)

    def wait(self) -> None:
        """Wait for what is being written."""
        # An interrupt may have come before it was started.
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()
        self._thread = None

    def finish(self) -> None:
        """Wait for what is being written; raise the error if it failed."""
        self.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, epoch: int, make: Callable[[], Checkpoint]) -> None:
        started = time.monotonic()
        try:
            make().save(cast(Path, self._folder))
            self._epoch = epoch
        except BaseException as error:
            self._error = error
        ended = time.monotonic()
        self._seconds = ended - started
        self._due = ended + self._seconds * (1 / CHECKPOINT_SHARE - 1)
