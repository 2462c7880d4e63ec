"""The ridge for new cohorts, against plain loops that learn from scratch."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dgex
from dgex.config import TrainConfig
from dgex.data.dataset import write_index
from dgex.errors import DataError, UsageError
from dgex.models.bundle import Bundle
from dgex.models.calibrate import calibrate
from dgex.models.cohort_ridge import BETWEEN, CohortRidge
from dgex.models.cohorts import Cohorts, bounded_rows, cohort_rows, find_column
from dgex.models.fit import check_options, train
from dgex.models.left_out import LeftOut
from dgex.models.likeness import adapt

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


def scaled(x_ng, names, between, pooled_g, clip=None, weights=None):
    """Profiles of cohorts of at least 5, within the cohort plus a multiple of its mean; then
    centred and scaled so that plain products are those by the weights of profiles."""
    weights = weights or {name: (names == name).sum() ** -0.25 for name in np.unique(names)}
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
        weight_n[rows] = weights[name]
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


@pytest.mark.parametrize("between", [0.0, 0.4])
def test_leaving_a_cohort_out_is_learning_from_the_others(between):
    x_nl, y_nt, names = profiles()
    rows = cohort_rows(pd.DataFrame({"study": names}), "study")
    assert list(rows) == ["a", "b", "c", "d"]
    train = training_set(x_nl, y_nt, names)
    cohorts = Cohorts.of(train, list(rows.values()))
    pooled_l, pooled_t = pooled_variance(x_nl, names), pooled_variance(y_nt, names)
    for c, name in enumerate(rows):
        others = names != name
        z_nl = own(x_nl[~others])
        one = LeftOut(cohorts, c, train, rows[name])
        others_c = cohorts.weight_c
        others_c[c] = 0
        expected = adapt(cohorts, others_c, z_nl.T @ z_nl / len(z_nl))
        np.testing.assert_allclose(one.adapted.weight_c, expected.weight_c, rtol=1e-3)
        np.testing.assert_allclose(one.adapted.noise_l, expected.noise_l, rtol=1e-3, atol=1e-4)
        assert one.adapted.weight_c[c] == 0
        np.testing.assert_allclose(one.y_nt, own(y_nt[~others]), atol=1e-5)
        weights = dict(zip(rows, one.adapted.weight_c, strict=True))
        a_nl = scaled(x_nl[others], names[others], between, pooled_l, weights=weights)
        c_nt = scaled(y_nt[others], names[others], between, pooled_t, clip=2.5, weights=weights)
        every = [slice(None), np.array([3, 8])]
        for penalty, chosen_t, guess_nt in zip(
            PENALTIES, every, one.guesses(between, PENALTIES, every), strict=True
        ):
            n = len(a_nl)
            system = a_nl.T @ a_nl / n + np.diag(penalty + one.adapted.noise_l)
            expected_nt = z_nl @ np.linalg.solve(system, a_nl.T @ c_nt / n)
            np.testing.assert_allclose(guess_nt, expected_nt[:, chosen_t], rtol=5e-3, atol=2e-3)
        some = np.array([3, 8])
        few = LeftOut(
            cohorts.of_targets(some), c, train, rows[name], chosen_t=some, adapted=one.adapted
        )
        np.testing.assert_array_equal(few.y_nt, one.y_nt[:, some])
        (few_nt,) = few.guesses(between, PENALTIES[1:], [slice(None)])
        np.testing.assert_allclose(few_nt, guess_nt, atol=1e-5)


@pytest.fixture
def fitted(dataset):
    model = CohortRidge()
    model.fit(dataset, TrainConfig(model="cohort-ridge", penalties=PENALTIES))
    return model


def test_choices_are_the_best_of_what_was_tried(dataset, fitted):
    names = profiles()[2]
    rows = [np.flatnonzero(names == name) for name in "abcd"]
    cohorts = Cohorts.of(dataset["train"], rows)
    every = [slice(None)] * len(PENALTIES)
    error_fpt = np.zeros((len(BETWEEN), len(PENALTIES), T))
    for c in range(3):  # d has fewer than 15 profiles
        one = LeftOut(cohorts, c, dataset["train"], rows[c])
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
        one = LeftOut(cohorts, c, dataset["train"], rows[c])
        guess_pnt = np.stack(list(one.guesses(fitted.between, PENALTIES, every)))
        guesses.append((guess_pnt[best_t, :, np.arange(T)].T, one.y_nt))
    learned = calibrate(*(np.concatenate(parts) for parts in zip(*guesses, strict=True)))
    np.testing.assert_allclose(fitted.calibration.guess_kt, learned.guess_kt, atol=1e-5)
    np.testing.assert_allclose(fitted.calibration.added_kt, 0.75 * learned.added_kt, atol=1e-5)


@pytest.mark.parametrize("adapting", [True, False])
def test_a_new_cohort_is_guessed_by_plain_algebra(fitted, adapting):
    x_nl, y_nt, names = profiles()
    z_nl = own(profiles(5, {"new": 40 if adapting else 9})[0]).astype(np.float32)
    present_l = np.arange(L) != 4
    known = np.flatnonzero(present_l)
    weights, noise_l = None, np.zeros(L - 1)
    if adapting:
        cohorts = fitted.cohorts.of_landmarks(present_l)
        found = adapt(cohorts, cohorts.weight_c, (z_nl.T @ z_nl / 40)[np.ix_(known, known)])
        weights, noise_l = dict(zip("abcd", found.weight_c, strict=True)), found.noise_l
        weights["e"] = 0.0
    pooled_l, pooled_t = pooled_variance(x_nl, names), pooled_variance(y_nt, names)
    part = scaled(x_nl, names, fitted.between, pooled_l, weights=weights)[:, known]
    c_nt = scaled(y_nt, names, fitted.between, pooled_t, clip=2.5, weights=weights)
    expected_nt = np.empty((len(z_nl), T))
    for t, penalty in enumerate(fitted.penalty_t):
        system = part.T @ part / len(part) + np.diag(penalty + noise_l)
        expected_nt[:, t] = z_nl[:, known] @ np.linalg.solve(
            system, part.T @ c_nt[:, t] / len(part)
        )
    filled_nl = z_nl.copy()
    filled_nl[:, 4] = 17.0  # whatever stands there must not matter
    adapted = fitted.for_cohort([filled_nl[:5], filled_nl[5:]], present_l)
    found_nt = adapted.predict(filled_nl)
    np.testing.assert_allclose(found_nt, fitted.calibration(expected_nt), atol=2e-3)
    # The model itself is as it was, for the next cohort.
    assert np.abs(fitted.predict(filled_nl) - found_nt).max() > 0.1


def test_few_profiles_do_not_say_what_the_cohort_is_like(fitted, caplog):
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
        {"x_nl": np.zeros((3, L), np.float32)},
        {"x_nl": np.zeros(3, np.float32)},
        {"y_nt": np.float32(0)},
        {"y_nt": np.zeros((73, T + 1), np.float32)},
        {"mean_cl": np.zeros((5, L), np.float32)},
        {"n_c": np.array([73, 0, 0, 0])},
        {"n_c": np.array([20.0, 30.0, 17.0, 6.0])},
        {"n_c": np.array([20, 30, 17, 5])},
        {"penalty_t": np.ones(T + 1, np.float32)},
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
    monkeypatch.setattr("dgex.models.left_out.MOST_SCORED", 8)
    data = Data({"train": training_set(*profiles(sizes={f"s{i}": 16 for i in range(9)}))})
    models = []
    for seed in (0, 0, 1):
        models.append(CohortRidge())
        models[-1].fit(data, TrainConfig(model="cohort-ridge", seed=seed))
    assert models[0].settings() == models[1].settings()
    assert models[0].mae != models[2].mae
    np.testing.assert_array_equal(models[0].cohorts.x_nl, models[2].cohorts.x_nl)


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


def test_of_too_many_profiles_the_largest_cohorts_give_evenly_spaced_ones(
    dataset, monkeypatch, caplog
):
    monkeypatch.setattr("dgex.models.cohorts.MOST_PROFILES", 56)
    monkeypatch.setattr("dgex.models.cohorts.LEAST_SHARE", 10)
    model = CohortRidge()
    with caplog.at_level(logging.INFO):
        model.fit(dataset, TrainConfig(model="cohort-ridge"))
    assert "54 profiles of 4 of them are learned from" in caplog.text
    assert model.cohorts.n_c.tolist() == [16, 16, 16, 6]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(5, 90), min_size=1, max_size=8), st.integers(90, 500))
def test_rows_are_bounded_fairly(sizes, most):
    rows = [1000 * c + 3 * np.arange(n) for c, n in enumerate(sizes)]
    bounded = bounded_rows(rows, most)
    n_c = [len(one) for one in bounded]
    assert 0 < sum(n_c) <= most
    for one in bounded:
        whole = rows[one[0] // 1000]
        assert len(one) in (len(whole), max(n_c))
        assert np.isin(one, whole).all()
        assert (np.diff(one) > 0).all()
        assert (one[0], one[-1]) == (whole[0], whole[-1])
    if sum(sizes) <= most:
        assert n_c == sizes
    elif max(n_c) > 30:  # not one more from each of the cut cohorts would fit
        assert len(n_c) == len(sizes)
        assert sum(n_c) + sum(n > max(n_c) for n in sizes) > most
    elif len(n_c) < len(sizes):  # all of them by 30 would have been too many
        assert sum(min(n, 30) for n in sizes) > most
