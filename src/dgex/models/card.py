"""The model card: what a Model infers, from what, how well, and where it should not be used."""

from __future__ import annotations

from typing import Any

_KINDS = {
    "mean": "the training mean of every target, whatever the landmarks: a yardstick, not a model",
    "ols": "least squares with an intercept, one linear combination of all landmarks per target",
    "ridge": "ridge regression, one linear combination of all landmarks per target",
    "lasso": "the lasso, one linear combination of few landmarks per target",
    "gene-knn": "the mean of the landmarks nearest to the target over the training profiles",
    "sample-knn": "the mean of the training profiles nearest to the profile over the landmarks; it "
    "holds the training profiles themselves",
    "sample-lasso": "the lasso of a profile on training profiles over the landmarks; it holds the "
    "training profiles themselves",
    "gbm": "gradient-boosted trees for the leading principal components of the targets",
    "cohort-ridge": "ridge regression learned within cohorts, for profiles of a new cohort "
    "standardised by their own moments; landmarks that are noisy in the cohort count for less, and "
    "training cohorts that are like it for more; it holds the training profiles themselves",
    "kernel": "kernel ridge regression, a weighted sum of likenesses to the training profiles, "
    "whose landmarks it holds",
    "ensemble": "a mean of other Models, with weights of its own for every target; it holds them, "
    "and what they hold of training profiles",
    "dgex": "the net of D-GEX, tanh hidden layers and a linear output for all targets",
    "resnet": "a residual net, blocks of normalised hidden layers beside a linear path, for all "
    "targets at once; the average of its weights over the last steps",
    "taaf": "the net of D-GEX with an activation learned by each unit (Kunc & Kléma 2021)",
}

_PROTOCOLS = {
    "strict": "quantile reference and moments come from the training profiles alone, and no target "
    "is the same gene as a landmark, as far as the identifiers in the gene lists and the file tell",
    "paper": "as in the D-GEX paper: quantile reference and moments come from all profiles of the "
    "data set, those held out among them, and a target may be the same gene as a landmark, "
    "measured by other probes; its scores flatter it beside protocol strict",
}


def model_card(info: dict[str, Any]) -> str:
    """Text of ``README.md`` in a Model directory, Markdown.

    Parameters
    ----------
    info
        Content of ``model.json``; the list of files is not needed.

    Examples
    --------
    >>> info = {"kind": "ols", "settings": {}, "protocol": "strict", "n_landmarks": 943,
    ...         "n_targets": 9520, "n_train": 474, "dataset": {"name": "geo", "fingerprint": "f0"},
    ...         "weights": {"validation": {"file": "weights.safetensors", "mae": 0.5,
    ...                                    "epoch": None}}}
    >>> print(model_card(info).splitlines()[0])
    # A dgex Model: 943 landmarks to 9520 targets by ols
    """
    if info.get("units") == "expression":
        return _imported_card(info)
    dataset = info["dataset"]
    settings = {
        name: value for name, value in info["settings"].items() if not isinstance(value, list)
    }
    described = "".join(f"- {name}: {_shown(value)}\n" for name, value in settings.items())
    weights = "".join(
        f"| `{one['file']}` | {set_name} | {_number(one['mae'])} | {one['epoch'] or '–'} |\n"
        for set_name, one in info["weights"].items()
    )
    of_simulated, warned = "", ""
    if info.get("simulated"):
        of_simulated = ", trained on SIMULATED profiles"
        warned = (
            "**It learned from profiles of `dgex simulate`. It says nothing about real "
            "expression.**\n\n"
        )
    learned = f"{info['n_train']} training profiles"
    judged = (
        "These weights were chosen on\nthose very profiles, so score the Model on its test set or "
        "on data of your own:\n`dgex evaluate DATASET MODEL --out EVALUATION`."
    )
    if info.get("train_on") == "train+validation":
        learned = f"{info['n_train']} profiles (train and validation together)"
    if info["kind"] == "cohort-ridge":
        judged = (
            "Validation is not used: what was chosen\nwas chosen by leaving out cohorts "
            "(mae_of_left_out_cohorts, before calibration, in standard\ndeviations of the gene "
            "within the cohort)."
        )
    elif info.get("train_on") == "train+validation":
        judged = (
            "This Model learned from\ntrain and validation, so only its test set, or data of your "
            "own, can say how good it is. What\nvalidation chooses was chosen before, by learning "
            "from train alone; of a net the last epoch was\nkept."
        )
        if info["kind"] == "ensemble":
            judged += (
                " `tried.tsv` has its MAE on validation before, and says\nwhich members had no "
                "time to learn again."
            )
    if info.get("train_on") == "all":
        learned = f"All {info['n_train']} profiles (train, validation and test together)"
        judged = (
            "This Model learned from\nall splits, so none of them can say how good it is: score "
            "the same kind of model, trained on\ntrain alone, or this one on data of your own. "
            "What validation chooses was chosen before, by\nlearning from train alone; of a net "
            "the last epoch was kept."
        )
    genes = f"{info['n_landmarks']} landmarks to {info['n_targets']} targets"
    return f"""\
# A dgex Model: {genes} by {info["kind"]}{of_simulated}

{warned}It infers the expression of {info["n_targets"]} target genes from that of
{info["n_landmarks"]} measured landmark genes. Both are listed, with their identifiers, in
`preprocessing/`.

## What it is

{info["kind"]}: {_KINDS[info["kind"]]}.

{described}
## What it was trained on

{learned} of the Dataset {dataset["name"]} (fingerprint
`{dataset["fingerprint"]}`), under protocol {info["protocol"]}: {_PROTOCOLS[info["protocol"]]}.
All options, versions and the seed are in `run.toml`.

## How well it does

| weights | chosen on set | MAE there | after epoch |
|---|---|---|---|
{weights}
MAE: mean absolute error over profiles and measured targets, in standardised units, where the
training mean of a gene is 0 and its standard deviation about 1. {judged}

## How to use it

    dgex predict MODEL PROFILES --out INFERRED.gctx

or, in Python, `dgex.predict(model, profiles, out)`. Profiles may hold the whole transcriptome or
the landmarks alone; the Model brings them to its own units.

## Limits

- It knows the tissues, diseases and platforms of its training profiles; elsewhere its error is
  larger by an amount that only measured profiles can tell.
- Some targets cannot be inferred from these landmarks: look at the table per gene of
  `dgex evaluate` before you trust a single gene.
- Inferred values vary less than measured ones: do not mix the two in one test.
- It is for research, not for decisions about patients.
"""


def _imported_card(info: dict[str, Any]) -> str:
    return f"""\
# A dgex Model: {info["n_landmarks"]} landmarks to {info["n_targets"]} targets by {info["kind"]}

CMap's linear model, read from `{info["dataset"]["name"]}` (SHA-256
`{info["dataset"]["fingerprint"]}`). Every target is a linear combination of all landmarks, clipped
to 0 … 15. It takes and gives log2 expression, not z-scores. Landmarks and targets are listed, with
their identifiers, in `preprocessing/`.

## How to use it

    dgex predict MODEL PROFILES --out INFERRED.gctx

Profiles hold every landmark, in log2 expression, normalised as those that the weights were
learned on; dgex does not know how.

## Limits

- dgex has not scored it.
- It is for research, not for decisions about patients.
"""


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
