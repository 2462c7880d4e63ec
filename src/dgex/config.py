"""Every option of every verb, with its default: here and nowhere else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Protocol = Literal["strict", "paper"]
Orientation = Literal["genes-by-samples", "samples-by-genes"]
Moments = Literal["own", "training"]
ModelKind = Literal[
    "auto",
    "mean",
    "ols",
    "ridge",
    "lasso",
    "gene-knn",
    "kernel",
    "sample-knn",
    "sample-lasso",
    "gbm",
    "cohort-ridge",
    "ensemble",
    "dgex",
    "resnet",
    "taaf",
]

KernelName = Literal["sum", "inverse-multiquadric", "rbf", "arc-cosine", "laplacian"]
KERNEL_NAMES: tuple[KernelName, ...] = get_args(KernelName)

RIDGE_PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
LASSO_PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
COHORT_PENALTIES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
SAMPLE_LASSO_PENALTIES = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5)

NET_OPTIONS: dict[str, dict[str, float]] = {
    "dgex": {
        "hidden_layers": 1,
        "hidden_units": 3000,
        "dropout": 0.1,
        "epochs": 200,
        "batch_size": 200,
    },
    "resnet": {
        "hidden_layers": 2,
        "hidden_units": 1024,
        "dropout": 0.05,
        "batch_size": 64,
        "learning_rate": 2e-3,
    },
    "taaf": {
        "hidden_layers": 2,
        "hidden_units": 1000,
        "dropout": 0.1,
        "epochs": 60,
        "batch_size": 64,
        "learning_rate": 4e-3,
    },
}
"""What the options of a net are, by kind, where they are not given; see `net_options`."""


@dataclass(frozen=True)
class PrepareConfig:
    """How expression files become a Dataset.

    Attributes
    ----------
    protocol
        strict learns everything on the training profiles and drops targets that are
        landmarks too; paper follows D-GEX to the letter.
    id_column
        Column of the gene table to match genes by; found by the program where not given.
    group_by
        Column of the sample table (study, patient, series): its groups are never split.
    obs
        Sample table (TSV or CSV; first column: sample ids) to add to the file's own.
    split
        Table of sample id and split (train, validation, test) to use instead of a random one.
    fractions
        Shares of the profiles for train, validation and test, as nearly as whole groups allow.
    remove_duplicates_below
        Remove the later profile of every pair closer than this Euclidean distance over all
        measured genes or probe sets; 0 keeps all.
    log2
        Take log2(x + 1) of the values first; auto does so where they look linear (none below 0,
        some above 50).
    drop_constant
        Drop genes that have one value in all profiles, instead of stopping.
    external_moments
        Moments by which an external set is standardised.
    missing_landmarks
        Fill a landmark that an external set lacks by its mean, or infer it from the landmarks
        that are there.
    orientation
        Orientation of text tables; guessed, and the guess said, where not given.
    seed
        Seed of the random split.
    overwrite
        Replace the output where it exists.
    """

    protocol: Protocol = "strict"
    id_column: str | None = None
    group_by: str | None = None
    obs: Path | None = None
    split: Path | None = None
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    remove_duplicates_below: float = 1.0
    log2: Literal["auto", "yes", "no"] = "auto"
    drop_constant: bool = False
    external_moments: Moments = "own"
    missing_landmarks: Literal["mean", "infer"] = "infer"
    orientation: Orientation | None = None
    seed: int = 0
    overwrite: bool = False


@dataclass(frozen=True)
class PanelConfig:
    """How a landmark panel is chosen from a compendium.

    Attributes
    ----------
    size
        Number of landmarks.
    max_profiles
        Training profiles used; drawn at random where there are more.
    group_by
        Column of the sample table: its groups are never split.
    obs
        Sample table (TSV or CSV; first column: sample ids) to add to the file's own.
    split
        Table of sample id and split (train, validation, test) to use instead of a random one.
    fractions
        Shares of the profiles for train, validation and test, as nearly as whole groups allow.
    log2
        Take log2(x + 1) of the values first; auto does so where they look linear (none below 0,
        some above 50).
    orientation
        Orientation of text tables; guessed, and the guess said, where not given.
    seed
        Seed of the split, the draw and the clustering.
    overwrite
        Replace the output where it exists.
    """

    size: int = 943
    max_profiles: int = 5000
    group_by: str | None = None
    obs: Path | None = None
    split: Path | None = None
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    log2: Literal["auto", "yes", "no"] = "auto"
    orientation: Orientation | None = None
    seed: int = 0
    overwrite: bool = False


@dataclass(frozen=True)
class TrainConfig:
    """How a Model is trained.

    Attributes
    ----------
    model
        Kind of model; auto tries what fits into --budget and keeps the best on validation.
    for_
        What the Model is for: profiles of the studies and the platform that it learned from, or
        new-cohorts, of other platforms and studies, which are standardised by their own moments
        (cohort-ridge).
    cohort_column
        Of new-cohorts: column of the sample table that tells cohorts (studies, tissues) apart.
        Where not given: the one of most cohorts that hold 80 % of the training profiles.
    penalties
        Penalties of ridge or lasso tried, relative to the number of training profiles; the one
        with the lowest validation MAE is kept. Where not given: 1e-4 to 10 for ridge, 1e-4 to
        0.3 for lasso, two in every power of ten; 1e-3 to 0.5 for sample-lasso, three in every
        power of ten. Of cohort-ridge one is kept for each target; where not given 0.1 to 6.4, each
        twice the one before.
    kernels
        Kernels of kernel ridge regression tried; the one with the lowest validation MAE is kept.
        The sum is that of inverse-multiquadric and arc-cosine: as good as the best of the others
        for profiles like those of training, and better for profiles unlike all of them.
    bandwidths
        Bandwidths of each kernel tried: its scale as a multiple of the median squared distance
        between training profiles.
    metric_powers
        Powers of the landmarks' correlation matrix tried as the metric of those distances: 0 for
        Euclidean ones; above, directions along which many landmarks vary together count more.
    neighbours
        Numbers of nearest landmarks (gene-knn) or training profiles (sample-knn) tried, as far as
        there are so many; the one with the lowest validation MAE is kept.
    hidden_layers
        Hidden layers of the net, of resnet its blocks, 1 to 3. Where not given: 1 for dgex, 2 for
        resnet and taaf.
    hidden_units
        Units of each hidden layer. Where not given: 3000 for dgex, 1024 for resnet, 1000 for taaf.
    dropout
        Share of hidden units, of resnet of the landmarks too, dropped while training. Where not
        given: 0.1 for dgex and taaf, 0.05 for resnet.
    epochs
        Passes over the training profiles. Where not given: 200 for dgex, 60 for taaf; for resnet
        40, above 2,000 training profiles as many as make 80,000 profiles, but 20 at least.
    batch_size
        Profiles of one step. Where not given: 200 for dgex, 64 for resnet and taaf.
    learning_rate
        First learning rate, of resnet the highest. Where not given: 5e-4 for a dgex of one hidden
        layer and 3e-4 for one of more, 2e-3 for resnet, 4e-3 for taaf.
    output_rate_factor
        Of dgex: learning rate of the weights above the first layer, as a multiple.
    momentum
        Of dgex: momentum of the gradient descent.
    rate_decay
        Of dgex: factor on the learning rate when the training MAE rises.
    least_learning_rate
        Of dgex: learning rate below which it does not fall.
    monitor_profiles
        Training profiles, drawn once, on which the training MAE is measured.
    select_on
        External set on whose MAE a second copy of the net is chosen.
    target_range
        Infer these targets only: START:STOP, counted from 0 in the order of the Dataset, without
        STOP.
    budget
        Time that auto may take, such as 60s, 10min or 2h; no limit where not given.
    members
        Directories of the trained Models that an ensemble combines.
    train_on
        Learn from the training profiles, from train and validation together, so that test alone
        can say how good the Model is, or from all, when none can. Where not given, auto and
        cohort-ridge learn from train and validation in the end, other models from train. What
        validation chooses (a penalty) is chosen before, by learning from train alone; of a net,
        which has all of --epochs, the last epoch is kept, so take the number of epochs from the
        same net trained on train.
    standardize_output
        The Model's default for predict: every inferred gene gets mean 0 and standard deviation 1
        over the profiles of the file.
    dgex_files
        Also write the seven files of the original D-GEX, their names beginning with this.
    device
        Device to train on; auto takes a GPU where there is one.
    precision
        Precision of the matrix products of a net; weights, momentum and sums are float32 anyway.
        auto takes bf16 where that is faster on the device.
    seed
        Seed of the initial weights, the order of profiles and the dropout.
    resume
        Go on from where an interrupted training stopped.
    overwrite
        Replace the output where it exists.
    """

    model: ModelKind = "auto"
    for_: Literal["same-studies", "new-cohorts"] = "same-studies"
    cohort_column: str | None = None
    penalties: tuple[float, ...] | None = None
    kernels: tuple[KernelName, ...] = ("sum",)
    bandwidths: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0)
    metric_powers: tuple[float, ...] = (0.0, 0.3)
    neighbours: tuple[int, ...] = (1, 2, 3, 5, 10, 15, 20, 30, 50, 75, 100, 150, 200)
    hidden_layers: int | None = None
    hidden_units: int | None = None
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    output_rate_factor: float = 3.0
    momentum: float = 0.5
    rate_decay: float = 0.9
    least_learning_rate: float = 1e-5
    monitor_profiles: int = 5000
    select_on: str | None = None
    target_range: str | None = None
    budget: str | None = None
    members: tuple[Path, ...] = ()
    train_on: Literal["train", "train+validation", "all"] | None = None
    standardize_output: bool = False
    dgex_files: Path | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    seed: int = 0
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class NetConfig(TrainConfig):
    """How a net is trained: a `TrainConfig` in which every option of a net has its value.

    Made by `net_options`.
    """

    hidden_layers: int = 0
    hidden_units: int = 0
    dropout: float = 0.0
    epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0


def net_options(config: TrainConfig, n_train: int) -> NetConfig:
    """The options of a net, those that are not given by its kind and its training profiles.

    Parameters
    ----------
    config
        Options; its model is a net.
    n_train
        Number of training profiles.

    Examples
    --------
    >>> net_options(TrainConfig(model="resnet", dropout=0.3), n_train=10_000).epochs
    20
    """
    if isinstance(config, NetConfig):
        return config
    options = dict(NET_OPTIONS[config.model])
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if config.model == "dgex":
        layers = given["hidden_layers"] or options["hidden_layers"]
        options["learning_rate"] = 5e-4 if layers == 1 else 3e-4
    if config.model == "resnet":
        options["epochs"] = min(40, max(20, round(80_000 / n_train)))
    return NetConfig(**options | {name: x for name, x in given.items() if x is not None})


@dataclass(frozen=True)
class ReproduceConfig:
    """How the grid of D-GEX is trained and shown.

    Attributes
    ----------
    grid
        paper: 1 to 3 hidden layers of 3,000, 6,000 and 9,000 units, dropout 0, 10, 25 and 50 %,
        200 epochs. small: the same with a tenth of the units and 100 epochs.
    hidden_layers
        Numbers of hidden layers, in place of the grid's own.
    hidden_units
        Units of each hidden layer, in place of the grid's own.
    dropout
        Shares of hidden units dropped while training, in place of the grid's own.
    epochs
        Passes over the training profiles, in place of the grid's own.
    select_on
        External set on which the nets for the other external sets are chosen, as the paper chose
        on 1000 Genomes for GTEx; validation chooses for them where it says validation. Where not
        given: 1000g, if the Dataset has it.
    only
        Train and score these points of the grid (their names, such as dgex-1x3000-dropout10) and
        write no tables: for machines that share the work.
    retry_failed
        Train points again whose training diverged; others that failed are always tried again.
    device
        Device to train on; auto takes a GPU where there is one.
    precision
        Precision of the matrix products of the nets, as of train; auto is settled by the first
        call, for the whole grid.
    seed
        Seed of every training.
    overwrite
        Start again, deleting what is there.
    """

    grid: Literal["paper", "small"] = "paper"
    hidden_layers: tuple[int, ...] | None = None
    hidden_units: tuple[int, ...] | None = None
    dropout: tuple[float, ...] | None = None
    epochs: int | None = None
    select_on: str | None = None
    only: tuple[str, ...] = ()
    retry_failed: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    seed: int = 0
    overwrite: bool = False


@dataclass(frozen=True)
class EvaluateConfig:
    """How Models are compared.

    Attributes
    ----------
    sets
        Sets to score; validation, test and every external set where not given.
    overwrite
        Replace the output where it exists.
    """

    sets: tuple[str, ...] = ()
    overwrite: bool = False


@dataclass(frozen=True)
class PredictConfig:
    """How profiles are inferred.

    Attributes
    ----------
    input
        What the profiles hold: the whole transcriptome, or landmarks only. auto: whole from four
        fifths of the Model's genes on.
    standardize
        Standardise each gene by the file's own moments (as D-GEX did for L1000; needs several
        profiles) or by the training moments. Where not given: training for fewer than 20
        profiles and for whole transcriptomes with 99 % of the Model's genes, own otherwise.
    ties
        Whole-transcriptome profiles: rank among unique values (as D-GEX does for other
        platforms; distorts values rounded to few decimals) or average rank of ties (as the
        training profiles were). Where not given: average if 99 % of the Model's genes are measured
        or the training moments are used, unique otherwise.
    missing_landmarks
        Fill a landmark that the profiles lack by its training mean, or infer it from the
        landmarks that are there.
    standardize_output
        Give every inferred gene mean 0 and standard deviation 1 over the profiles of the file, as
        in D-GEX's L1000 file. The profiles are then inferred twice. Where not given: as the Model
        says.
    units
        Units of the output: z-scores, or log2 expression by the training moments, for measured
        landmarks too. Where not given: z-scores, or of a Model of CMap the log2 expression that it
        gives.
    genes
        Genes of the output: landmarks then targets, or targets only.
    weights
        Which copy of a net: the best on validation, or on the external set it was selected on.
    precision
        Precision of a net's matrix products: bf16 needs half the memory and a fraction of the
        time on processors and GPUs made for it, and changes z-scores by about 0.01; auto takes it
        where it is faster. A Bundle given loaded keeps its own where this is float32.
    id_column
        Column of the gene table to match genes by; found by the program where not given.
    orientation
        Orientation of text tables; guessed, and the guess said, where not given.
    resume
        Go on with an interrupted output (GCTX and h5ad).
    overwrite
        Replace the output where it exists.
    """

    input: Literal["auto", "whole", "landmarks"] = "auto"
    standardize: Moments | None = None
    ties: Literal["unique", "average"] | None = None
    missing_landmarks: Literal["mean", "infer"] = "infer"
    standardize_output: bool | None = None
    units: Literal["standardised", "expression"] | None = None
    genes: Literal["all", "targets"] = "all"
    weights: str = "validation"
    precision: Literal["auto", "float32", "bf16"] = "float32"
    id_column: str | None = None
    orientation: Orientation | None = None
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class SimulateConfig:
    """How profiles are simulated.

    Attributes
    ----------
    like
        Which input of D-GEX to write the like of: GEO arrays, GTEx, 1000 Genomes or L1000.
    profiles
        Number of profiles; that of the original where not given.
    seed
        Seed of the profiles; the invented genes are always the same.
    overwrite
        Replace the outputs where they exist.
    """

    like: Literal["geo", "gtex", "1000g", "l1000"] = "geo"
    profiles: int | None = None
    seed: int = 0
    overwrite: bool = False


@dataclass(frozen=True)
class ImportConfig:
    """How CMap's weights become a Model.

    Attributes
    ----------
    overwrite
        Replace the output where it exists.
    """

    overwrite: bool = False
