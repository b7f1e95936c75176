from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr

from datamodules.consensus import SINGLE_VARIANCE, ensemble, normal_scores, shrink
from datamodules.errors import InputError
from datamodules.label_store import Annotation, LabelStore

Floats = npt.NDArray[np.float64]
SCALES: tuple[Callable[[Floats], Floats], ...] = (
    lambda x: x,
    np.exp,
    lambda x: 1000 + 3 * x**3,
    np.tanh,
    lambda x: -np.exp(-x),
)
IDS = [f"v{index:04d}" for index in range(600)]


def made_up(store: LabelStore, scores: Floats, stderr: float = np.nan, missing: int = 0) -> None:
    """Write one annotator a row of `scores`, on scales as different as teachers' are."""
    for index, (values, scale) in enumerate(zip(scores, SCALES, strict=False)):
        rows = [
            Annotation(video, None, 0, float(score), stderr)
            for video, score in zip(IDS, scale(values), strict=True)
        ]
        store.write(0, f"teacher{index}", f"{index:02d}", rows[missing if index == 0 else 0 :])


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path)


def teachers(count: int, noise: float | Floats = 0.7) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=len(IDS))
    return truth, truth + noise * rng.normal(size=(count, len(IDS)))


class TestEnsemble:
    def test_the_mean_is_better_than_each_teacher(self, store: LabelStore) -> None:
        truth, scores = teachers(5)
        made_up(store, scores)
        mean, variance = ensemble(store.read(), IDS, [f"{index:02d}" for index in range(5)])
        alone = [spearmanr(truth, row).statistic for row in scores]
        assert spearmanr(truth, mean).statistic > max(alone) + 0.05  # five looks against one: .95 to .80
        assert (variance > 0).all()
        # Unit signal and noise of .7 in units that make the sum unit: .49 / 1.49, to three standard errors.
        assert variance.mean() == pytest.approx(0.49 / 1.49, rel=0.1)

    def test_variance_follows_how_much_teachers_disagree(self, store: LabelStore) -> None:
        noise = np.where(np.arange(len(IDS)) % 2 == 0, 0.2, 1.2)
        _, scores = teachers(5, noise)
        made_up(store, scores)
        _, variance = ensemble(store.read(), IDS, [f"{index:02d}" for index in range(5)])
        # Six times the noise; ranks compress it and shrinking halves what is left.
        assert variance[1::2].mean() > 2 * variance[::2].mean()

    def test_a_monotone_change_of_scale_changes_nothing(self, store: LabelStore) -> None:
        _, scores = teachers(1)
        made_up(store, np.repeat(scores, 3, axis=0))  # the same teacher on three scales
        mean, _ = ensemble(store.read(), IDS, ["00", "01", "02"])
        single, _ = ensemble(store.read(), IDS, ["00"])
        assert mean == pytest.approx(single, abs=1e-9)

    def test_a_missing_score_is_left_out_of_the_mean(self, store: LabelStore) -> None:
        truth, scores = teachers(3)
        made_up(store, scores, missing=200)
        mean, variance = ensemble(store.read(), IDS, ["00", "01", "02"])
        assert np.isfinite(mean).all()
        assert (variance > 0).all()
        assert spearmanr(truth[:200], mean[:200]).statistic > 0.8

    def test_a_video_without_any_score_is_nan(self, store: LabelStore) -> None:
        made_up(store, teachers(2)[1])
        mean, variance = ensemble(store.read(), ["unknown", *IDS[:3]], ["00", "01"], fit_ids=IDS)
        assert np.isnan(mean).tolist() == np.isnan(variance).tolist() == [True, False, False, False]

    def test_one_teacher_has_the_variance_it_states(self, store: LabelStore) -> None:
        _, scores = teachers(1)
        made_up(store, scores, stderr=0.1)
        _, variance = ensemble(store.read(), IDS, ["00"])
        # The scores' own deviation is about 1.2, so .1 of theirs is .08 of the mapped scale.
        assert np.sqrt(np.median(variance)) == pytest.approx(0.1 / scores.std(), rel=0.2)

    def test_one_teacher_that_states_nothing_has_the_default(self, store: LabelStore) -> None:
        made_up(store, teachers(1)[1])
        _, variance = ensemble(store.read(), IDS, ["00"])
        assert (variance == SINGLE_VARIANCE).all()

    def test_the_map_of_the_train_split_serves_distorted_versions(self, store: LabelStore) -> None:
        truth, scores = teachers(2, 0.0)
        made_up(store, scores)
        # Distorted versions: worse than every source by more and more.
        for level in (1, 2):
            for index, scale in enumerate(SCALES[:2]):
                value = float(scale(truth.min() - level))
                store.write(
                    0, f"teacher{index}", f"{index:02d}", [Annotation("v0000", "jpeg", level, value, 0.0)]
                )
        table = store.read()
        fit = IDS[:400]
        source, _ = ensemble(table, ["v0000"], ["00", "01"], fit_ids=fit)
        mild, _ = ensemble(table, ["v0000"], ["00", "01"], fit_ids=fit, simulator="jpeg", level=1)
        strong, _ = ensemble(table, ["v0000"], ["00", "01"], fit_ids=fit, simulator="jpeg", level=2)
        assert source > mild > strong
        whole, _ = ensemble(table, fit, ["00"], fit_ids=fit)
        # Blom's scores are standard normal but for the tails cut at 1 / n.
        assert (whole.mean(), whole.std()) == pytest.approx((0, 1), abs=0.01)

    def test_an_annotator_without_scores_is_one_sentence(self, store: LabelStore) -> None:
        made_up(store, teachers(1)[1])
        with pytest.raises(InputError, match="Annotator ff has no score of the 600 videos"):
            ensemble(store.read(), IDS, ["00", "ff"])


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
