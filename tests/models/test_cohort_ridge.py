"""The ridge for new cohorts, against plain loops that learn from scratch."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import dgex
from dgex.config import TrainConfig
from dgex.data.dataset import write_index
from dgex.errors import DataError, UsageError
from dgex.models.bundle import Bundle
from dgex.models.calibrate import calibrate
from dgex.models.cohort_ridge import BETWEEN, CohortRidge
from dgex.models.cohorts import Cohorts, cohort_rows, find_column
from dgex.models.fit import check_options, train
from dgex.models.left_out import LEAST_RELIABILITY, LeftOut, noise, products_within

L, T = 7, 11
SIZES = {"a": 20, "b": 30, "c": 17, "d": 6, "e": 3}
PENALTIES = (0.2, 0.8)


def profiles(seed=0, sizes=SIZES):
    """Landmarks and targets of cohorts that differ in mean and scale, and the cohort of each."""
    rng = np.random.default_rng(seed)
    weight_lt = np.random.default_rng(99).normal(size=(L, T)) / np.sqrt(L)
    blocks, names = [], []
    for name, n in sizes.items():
        shift, scale = rng.normal(size=L), rng.uniform(0.5, 2, L)
        common = rng.normal(size=(n, 2)) @ np.random.default_rng(7).normal(size=(2, L))
        x_nl = shift + scale * (common + 0.7 * rng.normal(size=(n, L)))
        blocks.append((x_nl, x_nl @ weight_lt + rng.normal(size=T) + 0.5 * rng.normal(size=(n, T))))
        names += [name] * n
    order = rng.permutation(len(names))
    x_nl, y_nt = (
        np.concatenate(parts).astype(np.float32)[order] for parts in zip(*blocks, strict=True)
    )
    return x_nl, y_nt, np.array(names)[order]


def training_set(x_nl, y_nt, names):
    obs = pd.DataFrame({"study": names, "sex": ["mf"[i % 2] for i in range(len(names))]})
    return SimpleNamespace(x_nl=x_nl, y_nt=y_nt, n=len(x_nl), obs=obs)


@pytest.fixture
def dataset():
    return Data({"train": training_set(*profiles())})


class Data(dict):
    name = "colon"


def own(x_ng):
    return (x_ng - x_ng.mean(axis=0)) / (x_ng.std(axis=0) + 1e-3)


def scaled(x_ng, names, between, pooled_g, clip=None):
    """Profiles of cohorts of at least 5, within the cohort plus a multiple of its mean; then
    centred and scaled so that plain products are those by the weights of profiles."""
    out_ng = np.full(x_ng.shape, np.nan)
    weight_n = np.zeros(len(x_ng))
    for name in np.unique(names):
        rows = names == name
        if rows.sum() < 5:
            continue
        part_ng = x_ng[rows].astype(float)
        centred_ng = part_ng - part_ng.mean(axis=0)
        variance_g = ((centred_ng**2).sum(axis=0) + 5 * pooled_g) / (rows.sum() + 5)
        within_ng = centred_ng / (np.sqrt(variance_g) + 1e-3)
        if clip is not None:
            within_ng = np.clip(within_ng, -clip, clip)
            within_ng -= within_ng.mean(axis=0)
        out_ng[rows] = within_ng + between * part_ng.mean(axis=0)
        weight_n[rows] = rows.sum() ** -0.25
    kept = weight_n > 0
    out_ng, weight_n = out_ng[kept], weight_n[kept] / weight_n[kept].mean()
    return np.sqrt(weight_n)[:, None] * (out_ng - np.average(out_ng, axis=0, weights=weight_n))


def pooled_variance(x_ng, names):
    total_g, n, cohorts = 0.0, 0, 0
    for name in np.unique(names):
        part_ng = x_ng[names == name].astype(float)
        if len(part_ng) >= 5:
            total_g = total_g + ((part_ng - part_ng.mean(axis=0)) ** 2).sum(axis=0)
            n, cohorts = n + len(part_ng), cohorts + 1
    return total_g / (n - cohorts)


def plain_noise(a_nl, z_nl):
    """Each landmark regressed on all others, one at a time, with the profiles themselves."""
    gram_ll = a_nl.T @ a_nl / len(a_nl)
    noise_l = np.empty(L)
    for j in range(L):
        rest = np.arange(L) != j
        penalised = gram_ll[np.ix_(rest, rest)] + 0.6 * np.eye(L - 1)
        weight_r = np.linalg.solve(penalised, gram_ll[rest, j])
        r_there = np.corrcoef(z_nl[:, rest] @ weight_r, z_nl[:, j])[0, 1]
        r_training = np.corrcoef(a_nl[:, rest] @ weight_r, a_nl[:, j])[0, 1]
        noise_l[j] = 1 / np.clip(r_there / max(r_training, 0.1), 0.05, 1) - 1
    return noise_l


@pytest.mark.parametrize("between", [0.0, 0.4])
def test_leaving_a_cohort_out_is_learning_from_the_others(between):
    x_nl, y_nt, names = profiles()
    rows = cohort_rows(pd.DataFrame({"study": names}), "study")
    assert list(rows) == ["a", "b", "c", "d"]
    cohorts = Cohorts.of(training_set(x_nl, y_nt, names), list(rows.values()))
    products = products_within(cohorts)
    pooled_l, pooled_t = pooled_variance(x_nl, names), pooled_variance(y_nt, names)
    for c, name in enumerate(rows):
        others = names != name
        a_nl = scaled(x_nl[others], names[others], between, pooled_l)
        c_nt = scaled(y_nt[others], names[others], between, pooled_t, clip=2.5)
        z_nl = own(x_nl[~others])
        noise_l = plain_noise(scaled(x_nl[others], names[others], 0.0, pooled_l), z_nl)
        one = LeftOut(cohorts, products, c)
        np.testing.assert_allclose(one.noise_l, noise_l, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(one.y_nt, own(y_nt[~others]), atol=1e-5)
        every = [np.arange(T), np.array([3, 8])]
        for penalty, chosen_t, guess_nt in zip(
            PENALTIES, every, one.guesses(between, PENALTIES, every), strict=True
        ):
            n = len(a_nl)
            system = a_nl.T @ a_nl / n + np.diag(penalty + noise_l)
            expected_nt = z_nl @ np.linalg.solve(system, a_nl.T @ c_nt / n)
            np.testing.assert_allclose(guess_nt, expected_nt[:, chosen_t], rtol=5e-3, atol=2e-3)


def test_noise_of_a_cohort_whose_landmark_is_shuffled():
    rng = np.random.default_rng(3)
    a_nl, z_nl = (rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, L)) for n in (400, 300))
    z_nl[:, 2] = rng.permutation(z_nl[:, 2])
    a_nl, z_nl = a_nl - a_nl.mean(axis=0), z_nl - z_nl.mean(axis=0)
    found_l = noise(a_nl.T @ a_nl / len(a_nl), z_nl.T @ z_nl / len(z_nl))
    np.testing.assert_allclose(found_l, plain_noise(a_nl, z_nl), rtol=1e-6, atol=1e-9)
    assert found_l[2] > 5 > 1 > np.delete(found_l, 2).max()


@pytest.fixture
def fitted(dataset):
    model = CohortRidge()
    model.fit(dataset, TrainConfig(model="cohort-ridge", penalties=PENALTIES))
    return model


def test_choices_are_the_best_of_what_was_tried(dataset, fitted):
    names = profiles()[2]
    rows = [np.flatnonzero(names == name) for name in "abcd"]
    cohorts = Cohorts.of(dataset["train"], rows)
    products = products_within(cohorts)
    every = [np.arange(T)] * len(PENALTIES)
    error_fpt = np.zeros((len(BETWEEN), len(PENALTIES), T))
    for c in range(3):  # d has fewer than 15 profiles
        one = LeftOut(cohorts, products, c)
        for f, between in enumerate(BETWEEN):
            for p, guess_nt in enumerate(one.guesses(between, PENALTIES, every)):
                error_fpt[f, p] += np.abs(guess_nt - one.y_nt).sum(axis=0)
    mae_f = error_fpt.min(axis=1).mean(axis=1) / 67
    np.testing.assert_allclose(list(fitted.left_out_mae.values()), mae_f, rtol=1e-4)
    assert fitted.between == BETWEEN[mae_f.argmin()]
    error_pt = error_fpt[mae_f.argmin()]
    best_t = (error_pt + 0.5 * error_pt.mean(axis=1, keepdims=True)).argmin(axis=0)
    np.testing.assert_allclose(fitted.penalty_t, np.array(PENALTIES)[best_t])
    chosen_mae = error_pt[best_t, np.arange(T)].mean() / 67
    assert fitted.mae == pytest.approx(chosen_mae, rel=1e-4)
    guesses = []
    for c in range(3):
        one = LeftOut(cohorts, products, c)
        guess_pnt = np.stack(list(one.guesses(fitted.between, PENALTIES, every)))
        guesses.append((guess_pnt[best_t, :, np.arange(T)].T, one.y_nt))
    learned = calibrate(*(np.concatenate(parts) for parts in zip(*guesses, strict=True)))
    np.testing.assert_allclose(fitted.calibration.guess_kt, learned.guess_kt, atol=1e-5)
    np.testing.assert_allclose(fitted.calibration.added_kt, 0.75 * learned.added_kt, atol=1e-5)


def test_a_new_cohort_is_guessed_by_plain_algebra(fitted):
    x_nl, y_nt, names = profiles()
    z_nl = own(profiles(5, {"new": 40})[0]).astype(np.float32)
    present_l = np.arange(L) != 4
    pooled_l, pooled_t = pooled_variance(x_nl, names), pooled_variance(y_nt, names)
    a_nl = scaled(x_nl, names, fitted.between, pooled_l)
    c_nt = scaled(y_nt, names, fitted.between, pooled_t, clip=2.5)
    known = np.flatnonzero(present_l)
    within_ll = scaled(x_nl, names, 0.0, pooled_l)
    noise_l = noise(
        (within_ll.T @ within_ll / len(within_ll))[np.ix_(known, known)],
        (z_nl.T @ z_nl / 40)[np.ix_(known, known)],
    )
    expected_nt = np.empty((40, T))
    for t, penalty in enumerate(fitted.penalty_t):
        part = a_nl[:, known]
        system = part.T @ part / len(part) + np.diag(penalty + noise_l)
        expected_nt[:, t] = z_nl[:, known] @ np.linalg.solve(
            system, part.T @ c_nt[:, t] / len(part)
        )
    filled_nl = z_nl.copy()
    filled_nl[:, 4] = 17.0  # whatever stands there must not matter
    adapted = fitted.for_cohort([filled_nl[:15], filled_nl[15:]], present_l)
    found_nt = adapted.predict(filled_nl)
    np.testing.assert_allclose(found_nt, fitted.calibration(expected_nt), atol=2e-3)
    # The model itself is as it was, for the next cohort.
    assert np.abs(fitted.predict(filled_nl) - found_nt).max() > 0.1


def test_few_profiles_do_not_say_which_landmarks_are_noisy(fitted, caplog):
    z_nl = own(profiles(5, {"new": 9})[0]).astype(np.float32)
    with caplog.at_level(logging.INFO):
        adapted = fitted.for_cohort([z_nl], np.ones(L, bool))
    np.testing.assert_array_equal(adapted.predict(z_nl), fitted.predict(z_nl))
    assert "9 profiles are too few" in caplog.text


def test_arrays_and_settings_are_all_there_is(fitted):
    again = CohortRidge.from_arrays(fitted.arrays(), fitted.settings())
    assert again.settings() == fitted.settings()
    z_nl = own(profiles(5, {"new": 30})[0]).astype(np.float32)
    for one in ("predict", "adapted"):
        models = [fitted, again]
        if one == "adapted":
            models = [model.for_cohort([z_nl], np.ones(L, bool)) for model in models]
        np.testing.assert_allclose(*(model.predict(z_nl) for model in models), atol=1e-6)


@pytest.mark.parametrize(
    "damage",
    [
        {"xx_ll": np.zeros((L, L + 1), np.float32)},
        {"within_ll": np.zeros((2, 2), np.float32)},
        {"xy_lt": np.zeros((L, T + 1), np.float32)},
        {"penalty_t": np.zeros(T, np.float32)},
        {"guess_kt": np.zeros((1, T + 1), np.float32)},
    ],
)
def test_arrays_that_do_not_fit(fitted, damage):
    with pytest.raises(ValueError, match=r"shape|above 0|knots"):
        CohortRidge.from_arrays(fitted.arrays() | damage, fitted.settings())


def test_columns():
    obs = profiles()[2]
    table = pd.DataFrame({"study": obs, "one": "x", "id": np.arange(len(obs)).astype(str)})
    assert find_column(table) == "study"
    with pytest.raises(UsageError, match=r"it has one, id\. Name one with --cohort-column"):
        find_column(table[["one", "id"]])
    with pytest.raises(UsageError, match="it has no columns"):
        find_column(table[[]])
    table.loc[table["study"] != "a", "study"] = ""  # of no study
    assert list(cohort_rows(table, "study")) == ["a"]


def test_a_column_that_will_not_do(dataset):
    def fit(column):
        options = TrainConfig(model="cohort-ridge", cohort_column=column)
        CohortRidge().fit(dataset, options)

    with pytest.raises(UsageError, match=r"--cohort-column age: no such column; colon has study"):
        fit("age")
    with pytest.raises(DataError, match="Column sex of colon makes 2 cohorts"):
        fit("sex")


def test_too_few_cohorts_are_large_enough():
    sizes = {"a": 20, "b": 14, "c": 30, "d": 6}
    data = Data({"train": training_set(*profiles(sizes=sizes))})
    with pytest.raises(DataError, match="colon has 2 cohorts of at least 15 training profiles"):
        CohortRidge().fit(data, TrainConfig(model="cohort-ridge"))


def test_many_cohorts_are_drawn_by_the_seed(monkeypatch):
    monkeypatch.setattr("dgex.models.cohort_ridge.MOST_LEFT_OUT", 3)
    monkeypatch.setattr("dgex.models.left_out.MOST_PROFILES", 8)
    data = Data({"train": training_set(*profiles(sizes={f"s{i}": 16 for i in range(9)}))})
    models = []
    for seed in (0, 0, 1):
        models.append(CohortRidge())
        models[-1].fit(data, TrainConfig(model="cohort-ridge", seed=seed))
    assert models[0].settings() == models[1].settings()
    assert models[0].mae != models[2].mae
    np.testing.assert_array_equal(models[0].within_ll, models[2].within_ll)


def test_a_cohort_too_large_for_memory_is_never_left_out(monkeypatch, caplog):
    data = Data({"train": training_set(*profiles(sizes={"a": 20, "b": 40, "c": 16, "d": 18}))})
    for largest, n in ((30, 3), (19, 4), (5000, 4)):  # fewer than 3 are left below 19
        monkeypatch.setattr("dgex.models.cohort_ridge.LARGEST_LEFT_OUT", largest)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            CohortRidge().fit(data, TrainConfig(model="cohort-ridge"))
        assert f"MAE over {n} left-out cohorts" in caplog.text


def with_studies(folder, write_dataset):
    """A Dataset on disk whose profiles come from studies."""
    made = write_dataset(folder, sizes={"train": 90, "validation": 40, "test": 21, "gtex": 30})
    for name in ("train", "validation", "test"):
        path = folder / "sets" / name / "obs.tsv"
        obs = pd.read_csv(path, sep="\t", index_col=0)
        obs["study"] = [f"s{i % 4}" for i in range(len(obs))]
        obs.to_csv(path, sep="\t")
    (folder / "dataset.json").unlink()
    write_index(folder, made.preprocessor, "paper", made.sets, [])
    return dgex.Dataset(folder)


@pytest.fixture
def studies(tmp_path, write_dataset):
    return with_studies(tmp_path / "data", write_dataset)


def test_the_verb_finds_the_column_and_says_so(studies, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        bundle = train(studies, tmp_path / "model", for_="new-cohorts")
    assert "4 cohorts of at least 5 profiles (90 of 90) by column study" in caplog.text
    assert (bundle.kind, bundle.for_new_cohorts) == ("cohort-ridge", True)
    assert bundle.info["weights"]["validation"]["mae"] is None
    run = (tmp_path / "model" / "run.toml").read_text()
    assert 'for = "new-cohorts"' in run
    assert (bundle.info["train_on"], bundle.info["n_train"]) == ("train+validation", 130)
    card = " ".join((tmp_path / "model" / "README.md").read_text().split())
    assert "leaving out cohorts" in card
    assert "130 profiles (train and validation together) of the Dataset" in card
    again = train(studies, tmp_path / "again", model="cohort-ridge", cohort_column="study")
    x_nl = studies["gtex"].x_nl
    np.testing.assert_array_equal(bundle.predict(x_nl), again.predict(x_nl))


@pytest.mark.parametrize(("train_on", "n"), [("train+validation", 130), ("all", 151)])
def test_refit_keeps_what_was_chosen(studies, tmp_path, train_on, n):
    options = {"model": "cohort-ridge", "penalties": PENALTIES}
    first = train(studies, tmp_path / "first", **options, train_on="train")
    more = train(studies, tmp_path / "more", **options, train_on=train_on)
    assert (more.info["train_on"], more.info["n_train"]) == (train_on, n)
    np.testing.assert_array_equal(first.model.penalty_t, more.model.penalty_t)
    assert first.model.between == more.model.between
    splits = more.learned_splits
    assert splits == ("train", "validation", "test")[: len(splits)]
    parts = [studies[name] for name in splits]
    joined = SimpleNamespace(
        x_nl=np.concatenate([one.x_nl for one in parts]),
        y_nt=np.concatenate([one.y_nt for one in parts]),
        n=n,
        obs=pd.concat([one.obs for one in parts]),
    )
    alone = CohortRidge.from_arrays(first.model.arrays(), first.model.settings())
    alone.refit(Data({"train": joined}))
    for name, array in alone.arrays().items():
        np.testing.assert_allclose(more.model.arrays()[name], array, atol=1e-5, err_msg=name)


def test_what_is_refused(studies, tmp_path):
    with pytest.raises(UsageError, match="--for new-cohorts trains cohort-ridge, not ols"):
        train(studies, tmp_path / "model", model="ols", for_="new-cohorts")
    with pytest.raises(UsageError, match="--for nobody: no such for"):
        train(studies, tmp_path / "model", for_="nobody")
    with pytest.raises(UsageError, match="--cohort-column: of no use to the model ols"):
        check_options(TrainConfig(model="ols", cohort_column="study"))
    assert not (tmp_path / "model").exists()


def test_it_is_loaded_as_it_was_saved(studies, tmp_path):
    bundle = train(studies, tmp_path / "model", for_="new-cohorts")
    x_nl = np.array(studies["gtex"].x_nl)
    adapted = Bundle.load(tmp_path / "model").for_cohort([x_nl], np.ones(x_nl.shape[1], bool))
    assert adapted.kind == "cohort-ridge"
    assert np.isfinite(adapted.predict(x_nl)).all()
    assert adapted.fingerprint == bundle.fingerprint


def test_a_landmark_that_is_constant_in_a_cohort_is_all_noise():
    xx_ll = np.array([[1.0, 0.5, 0.4], [0.5, 1.0, 0.3], [0.4, 0.3, 1.0]])
    own_ll = xx_ll.copy()
    # Rounding leaves less than nothing of its variance.
    own_ll[2] = own_ll[:, 2] = -1e-28
    noise_l = noise(xx_ll, own_ll)
    assert noise_l[2] == pytest.approx(1 / LEAST_RELIABILITY - 1)
    assert (noise_l[:2] < noise_l[2]).all()
