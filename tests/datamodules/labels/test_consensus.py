from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from scipy.stats import norm, spearmanr

from datamodules.labels import LEVELS, fit_consensus
from datamodules.labels.fitted_consensus import SINGLE_VARIANCE, shrink
from datamodules.labels.label_store import READ_SCHEMA
from datamodules.labels.levels import soft_levels
from datamodules.labels.teacher_scales import fit_logistic, logistic, normal_scores
from vqa_lightning.families import InputError

Floats = npt.NDArray[np.float64]
SCALES: tuple[Callable[[Floats], Floats], ...] = (
    lambda x: x,
    np.exp,
    lambda x: 1000 + 3 * x**3,
    np.tanh,
    lambda x: -np.exp(-x),
)
IDS = [f"v{index:04d}" for index in range(600)]


def rows_of(
    fingerprint: str,
    scores: Floats,
    stderr: Floats | None = None,
    *,
    simulator: str | None = None,
    level: int = 0,
    ids: list[str] = IDS,
) -> pa.Table:
    """One annotator's whole-clip scores as `LabelStore.read` gives them."""
    count = len(scores)
    columns = {
        "video_id": ids[:count],
        "simulator": [simulator] * count,
        "level": [level] * count,
        "draw": [0] * count,
        "segment": [None] * count,
        "score": scores,
        "stderr": pa.nulls(count) if stderr is None else stderr,
        "round": [0] * count,
        "annotator": [f"teacher-{fingerprint}"] * count,
        "fingerprint": [fingerprint] * count,
    }
    return pa.table(columns).cast(READ_SCHEMA)


def made_up(scores: Floats) -> pa.Table:
    """One annotator a row of `scores`, on scales as different as teachers' are."""
    return pa.concat_tables(
        rows_of(f"{index:02d}", scale(values))
        for index, (values, scale) in enumerate(zip(scores, SCALES, strict=False))
    )


def teachers(count: int, noise: float | Floats = 0.7) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=len(IDS))
    return truth, truth + noise * rng.normal(size=(count, len(IDS)))


def names(count: int) -> list[str]:
    return [f"{index:02d}" for index in range(count)]


def ensemble(
    table: pa.Table, ids: list[str], annotators: list[str], fit_ids: list[str] | None = None
) -> tuple[Floats, Floats]:
    """Mean and variance of annotators of equal weight."""
    return fit_consensus(table, fit_ids or ids, annotators).scores(ids)


class TestScores:
    def test_the_mean_is_better_than_each_teacher(self) -> None:
        truth, scores = teachers(5)
        mean, variance = ensemble(made_up(scores), IDS, names(5))
        alone = [spearmanr(truth, row).statistic for row in scores]
        assert spearmanr(truth, mean).statistic > max(alone) + 0.05  # five looks against one: .95 to .80
        assert (variance > 0).all()
        # Unit signal, noise of .7, in units of the mean of five, 1 + .49 / 5; to three standard errors.
        assert variance.mean() == pytest.approx(0.49 / (1 + 0.49 / 5), rel=0.1)

    def test_the_fitted_sources_have_mean_0_and_deviation_1(self) -> None:
        table = made_up(teachers(4)[1])
        fitted = fit_consensus(
            table, IDS[:400], names(4), weights=dict(zip(names(4), [4, 2, 1, 1], strict=True))
        )
        mean, _ = fitted.scores(IDS[:400])
        assert (mean.mean(), mean.std()) == pytest.approx((0, 1))
        assert fitted.weights == pytest.approx([0.5, 0.25, 0.125, 0.125])

    def test_variance_follows_how_much_teachers_disagree(self) -> None:
        noise = np.where(np.arange(len(IDS)) % 2 == 0, 0.2, 1.2)
        _, variance = ensemble(made_up(teachers(5, noise)[1]), IDS, names(5))
        # Six times the noise; ranks compress it and shrinking halves what is left.
        assert variance[1::2].mean() > 2 * variance[::2].mean()

    def test_a_monotone_change_of_scale_changes_nothing(self) -> None:
        table = made_up(np.repeat(teachers(1)[1], 3, axis=0))  # the same teacher on three scales
        mean, _ = ensemble(table, IDS, names(3))
        single, _ = ensemble(table, IDS, ["00"])
        assert mean == pytest.approx(single, abs=1e-9)

    def test_a_missing_score_is_left_out_of_the_mean(self) -> None:
        truth, scores = teachers(3)
        table = made_up(scores)
        mean, variance = ensemble(table.slice(200), IDS, names(3))
        assert np.isfinite(mean).all()
        assert (variance > 0).all()
        assert spearmanr(truth[:200], mean[:200]).statistic > 0.8

    def test_a_score_of_nan_counts_as_missing(self) -> None:
        _, scores = teachers(2)
        scores[0, :5] = np.nan  # a part that another tool wrote
        mean, variance = ensemble(made_up(scores), IDS, names(2))
        assert np.isfinite(mean).all()
        assert (variance > 0).all()

    def test_a_video_without_any_score_is_nan(self) -> None:
        mean, variance = ensemble(made_up(teachers(2)[1]), ["unknown", *IDS[:3]], names(2), fit_ids=IDS)
        assert np.isnan(mean).tolist() == np.isnan(variance).tolist() == [True, False, False, False]

    def test_one_teacher_has_the_variance_it_states(self) -> None:
        _, scores = teachers(1)
        _, variance = ensemble(rows_of("00", scores[0], np.full(len(IDS), 0.1)), IDS, ["00"])
        # The scores' own deviation is about 1.2, so .1 of theirs is .08 of the mapped scale.
        assert np.sqrt(np.median(variance)) == pytest.approx(0.1 / scores.std(), rel=0.2)

    @pytest.mark.parametrize("stderr", [None, np.zeros(len(IDS))])
    def test_one_teacher_that_states_nothing_has_the_default(self, stderr: Floats | None) -> None:
        _, variance = ensemble(rows_of("00", teachers(1)[1][0], stderr), IDS, ["00"])
        assert variance == pytest.approx(SINGLE_VARIANCE, rel=0.02)  # Blom's scores of 600 have variance .99

    def test_an_annotator_without_scores_is_one_sentence(self) -> None:
        with pytest.raises(InputError, match="Annotator ff needs scores of the 600 videos"):
            ensemble(made_up(teachers(1)[1]), IDS, ["00", "ff"])

    def test_no_positive_weight_is_one_sentence(self) -> None:
        with pytest.raises(InputError, match="of the annotators 00 must be above 0; got none: name"):
            fit_consensus(made_up(teachers(1)[1]), IDS, ["00"], weights={"00": 0.0})


class TestScale:
    @pytest.mark.parametrize("count", [1, 3])
    def test_versions_far_worse_than_any_source_stay_in_order(self, count: int) -> None:
        _, scores = teachers(count, 0.3)
        saturating = [np.tanh(2 * row) if index else row for index, row in enumerate(scores)]
        tables = [rows_of(name, row) for name, row in zip(names(count), saturating, strict=True)]
        for level in range(1, 6):
            tables += [
                rows_of(name, np.array([row.min() - 3.0**level]), simulator="jpeg", level=level)
                for name, row in zip(names(count), saturating, strict=True)
            ]
        fitted = fit_consensus(pa.concat_tables(tables), IDS[:400], names(count))
        ladder = [fitted.scores(IDS[:1])[0][0]]
        ladder += [fitted.scores(IDS[:1], "jpeg", level)[0][0] for level in range(1, 6)]
        assert (np.diff(ladder) < 0).all()

    def test_the_logistic_is_strictly_monotone_where_floating_point_saturates(self) -> None:
        x = np.linspace(-1e4, 1e4, 4001)
        assert (np.diff(logistic(x, 0.5, 0.5)) > 0).all()

    def test_the_logistic_is_found_whatever_its_place(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=4000)
        for middle, width in ((-1.5, 0.6), (0.0, 1.0), (1.5, 0.6)):
            found = fit_logistic(x, logistic(x, middle, width) + 0.1 * rng.normal(size=len(x)))
            assert found == pytest.approx((middle, width), abs=0.1)  # three standard errors of the width

    def test_no_curve_is_fitted_to_a_line_or_to_noise(self) -> None:
        rng = np.random.default_rng(0)
        x, noise = rng.normal(size=(2, 300))
        assert fit_logistic(x, x + 0.5 * noise) is None
        assert fit_logistic(x, noise) is None
        assert fit_logistic(x, -x) is None

    def test_heavy_tails_and_saturation_count_less_than_by_ranks_alone(self) -> None:
        gains = []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            truth = rng.normal(size=len(IDS))
            scores = [
                truth + 0.4 * rng.standard_t(1.5, len(IDS)),
                truth + 0.4 * rng.standard_t(1.5, len(IDS)),
                np.tanh(1.5 * truth) + 0.25 * rng.normal(size=len(IDS)),
            ]
            table = pa.concat_tables(rows_of(name, row) for name, row in zip(names(3), scores, strict=True))
            ranks = np.mean([normal_scores(row)(row) for row in scores], axis=0)
            mean, _ = ensemble(table, IDS, names(3))
            gains.append(spearmanr(truth, mean).statistic - spearmanr(truth, ranks).statistic)
        assert np.mean(gains) > 0.005  # the logistic gives .01 to .03 in SRCC


def margins(
    mean: Floats, variance: Floats, count: int = 20000
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """D / sD and sD of random pairs, and the positions of their sides."""
    sides = np.random.default_rng(1).integers(len(mean), size=(2, count))
    sides = sides[:, sides[0] != sides[1]]
    spread = np.sqrt(variance[sides].sum(axis=0))
    return np.diff(mean[sides], axis=0)[0] / spread, spread, sides


def calibration_error(stated: Floats, happened: npt.NDArray[np.bool_]) -> float:
    """Mean gap between stated and seen frequency over ten bins, weighted by their size."""
    bins = np.digitize(stated, np.linspace(0, 1, 11)[1:-1])
    return float(
        sum(abs((stated - happened)[bins == index].sum()) for index in np.unique(bins)) / len(stated)
    )


class TestSoftLabels:
    @pytest.mark.parametrize(
        ("noise", "weighted"),
        [
            ([0.7] * 5, False),
            ([0.7] * 2, False),
            ([0.3, 0.7, 1.2], False),
            ([0.3, 0.7, 1.2], True),
            ([0.5] * 3 + [30.0], True),
        ],
        ids=["five", "two", "unequal", "weighted", "weighted with noise"],
    )
    def test_the_stated_probability_is_the_frequency(self, noise: list[float], weighted: bool) -> None:
        truth, scores = teachers(len(noise), np.array(noise)[:, None])
        weights = {
            name: s**-2.0 if weighted else 1.0 for name, s in zip(names(len(noise)), noise, strict=True)
        }
        fitted = fit_consensus(made_up(scores), IDS, names(len(noise)), weights=weights)
        margin, _, (first, second) = margins(*fitted.scores(IDS))
        better = truth[second] > truth[first]
        # 600 videos leave .01 to chance; leaving out a score's regression to the mean costs up to .02.
        assert calibration_error(norm.cdf(margin / np.linalg.norm(fitted.weights)), better) < 0.035
        # One teacher's variance is the cautious side if errors are shared: never too sure.
        sure = norm.cdf(np.abs(margin))
        assert np.mean(better == (margin > 0)) > sure.mean() - 0.01

    def test_labels_with_the_default_blur_are_calibrated_for_five_teachers(self) -> None:
        truth, scores = teachers(5)
        margin, _, (first, second) = margins(*ensemble(made_up(scores), IDS, names(5)))
        # A cut at 0 in place of the five levels: the mass above it is the stated P(second better).
        labels = soft_levels(torch.from_numpy(margin), cuts=(1e-9, 2e-9)).numpy()
        stated = labels[:, LEVELS.index("better") :].sum(axis=1)
        assert calibration_error(stated, truth[second] > truth[first]) < 0.035  # as above

    def test_a_single_teacher_with_standard_errors(self) -> None:
        rng = np.random.default_rng(0)
        truth = rng.normal(size=len(IDS))
        noise = 0.5 * np.exp(0.5 * rng.normal(size=len(IDS)))
        stderr = noise * np.sqrt(rng.chisquare(3, len(IDS)) / 3)  # as estimated from four segments
        table = rows_of("00", truth + noise * rng.normal(size=len(IDS)), stderr)
        margin, _, (first, second) = margins(*ensemble(table, IDS, ["00"]))
        assert (
            calibration_error(norm.cdf(margin), truth[second] > truth[first]) < 0.05
        )  # larger noise regresses more

    def test_disagreement_is_told_apart_from_similarity(self) -> None:
        disputed = np.exp(0.6 * np.random.default_rng(2).normal(size=len(IDS)))
        truth, scores = teachers(5, 0.5 * disputed)
        margin, spread, (first, second) = margins(*ensemble(made_up(scores), IDS, names(5)))
        similar = np.abs(margin) <= 1
        lower, upper = np.quantile(spread[similar], [1 / 3, 2 / 3])
        apart = np.abs(truth[second] - truth[first])
        agreed, unknown = apart[similar & (spread <= lower)], apart[similar & (spread > upper)]
        assert unknown.mean() > 1.3 * agreed.mean()  # .67 to .40 with 2000 videos


class TestParts:
    def test_ties_share_their_score_and_constants_map_to_the_middle(self) -> None:
        mapped = normal_scores(np.array([1.0, 2.0, 2.0, 3.0]))(np.array([1.0, 2.0, 3.0]))
        assert mapped[1] == pytest.approx(0, abs=1e-12)
        assert mapped[0] == -mapped[2]
        assert normal_scores(np.array([5.0, 5.0]))(np.array([4.0, 5.0, 6.0])) == pytest.approx(0, abs=1e-12)

    def test_chance_alone_is_shrunk_to_one_variance(self) -> None:
        rng = np.random.default_rng(0)
        sample = rng.chisquare(4, 4000) / 4
        shrunk = shrink(sample, np.full(4000, 4.0))
        assert shrunk.std() < 0.1 * sample.std()  # the weight's own standard error is a few hundredths

    def test_shrinking_lowers_the_error(self) -> None:
        rng = np.random.default_rng(0)
        true = rng.gamma(2.0, 0.5, 4000)
        for freedom in (1.0, 4.0):
            sample = true * rng.chisquare(freedom, 4000) / freedom
            shrunk = shrink(sample, np.full(4000, freedom))
            assert ((shrunk - true) ** 2).mean() < ((sample - true) ** 2).mean()
            assert ((shrunk - true) ** 2).mean() < true.var()
