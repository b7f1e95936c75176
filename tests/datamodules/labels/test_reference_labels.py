from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.labels import Consensus, LabelStore, Request, Versions, annotate_missing
from datamodules.labels.label_store import READ_SCHEMA
from datamodules.labels.reference_labels import (
    Floats,
    drawn_ladders,
    eligible,
    half_normal_scores,
    reference_versions,
)
from datamodules.simulators import SIMULATORS
from datamodules.teachers.full_reference import FullReference, Metric
from datamodules.video import probe

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")
NAMES = ("gaussian_blur", "jpeg")
CHOSEN = {name: SIMULATORS[name] for name in NAMES}
LEVELS = 5
SPREAD = 2.0
"""Of the made-up world's drops: what `reference_versions` is told where its margins are to be right."""


def scores_table(videos: int, scores: dict[str, Floats]) -> pa.Table:
    """Scores (videos, simulators, LEVELS) by fingerprint, as the store gives them."""
    video, simulator, level = (axis.ravel() for axis in np.indices((videos, len(NAMES), LEVELS)))
    columns = {
        "video_id": [f"{number:05d}" for number in video],
        "simulator": [SIMULATORS[NAMES[number]].identity for number in simulator],
        "level": level + 1,
        "draw": np.zeros(len(level)),
    }
    tables = []
    for fingerprint, values in scores.items():
        own: dict[str, object] = {name: columns.get(name, [None] * len(level)) for name in READ_SCHEMA.names}
        own |= {"score": values.ravel(), "round": np.zeros(len(level), int)}
        own |= {"annotator": [fingerprint] * len(level), "fingerprint": [fingerprint] * len(level)}
        tables.append(pa.table(own, schema=READ_SCHEMA))
    return pa.concat_tables(tables)


class World:
    """Sources of quality N(0, 1); versions that lose |N(0, 1)| times a scale; two noisy metrics of the loss.

    The metrics' errors have a share of 1/3 in common: then what they disagree by is the variance of their
    mean.
    """

    def __init__(self, noise: float, videos: int = 2000) -> None:
        random = np.random.default_rng(0)
        shape = (videos, len(NAMES), LEVELS)
        self.quality = random.standard_normal(videos)
        self.drop = np.abs(random.standard_normal(shape)) * SPREAD / norm.ppf(0.75)
        common = random.standard_normal(shape) * np.sqrt(1 / 3)
        seen = [
            np.abs(self.drop + noise * (common + random.standard_normal(shape) * np.sqrt(2 / 3)))
            for _ in range(2)
        ]
        # Two monotone scales, one bent and one straight, as SSIM and GMSD are.
        self.table = scores_table(videos, {"aa": np.exp(-seen[0]), "bb": 1 - seen[1] / 50})
        self.ids = [f"{number:05d}" for number in range(videos)]

    def truth(self, versions: Versions) -> Floats:
        video = np.array([int(name) for name in versions.consensus.video_ids])
        simulator = np.array([NAMES.index(name) for name in versions.simulators])
        truth: Floats = self.quality[video] - self.drop[video, simulator, versions.levels - 1]
        return truth


def assert_calibrated(truth: Floats, consensus: Consensus, tolerance: float) -> None:
    """P(second better | margin) is Phi(margin) in seven bins of random pairs of different videos."""
    random = np.random.default_rng(1)
    first, second = random.integers(len(truth), size=(2, 200_000))
    video = np.array(consensus.video_ids)
    different = video[first] != video[second]
    first, second = first[different], second[different]
    margin = consensus.margin(first, second)
    better = truth[second] > truth[first]
    for low in np.arange(-1.75, 1.75, 0.5):
        here = (margin > low) & (margin <= low + 0.5)
        assert better[here].mean() == pytest.approx(norm.cdf(margin[here]).mean(), abs=tolerance)


class TestDrawnLadders:
    IDS = [f"{n:05d}" for n in range(600)]

    def test_each_video_has_as_many_and_each_simulator_its_share(self) -> None:
        drawn = drawn_ladders(self.IDS, SIMULATORS, 4)
        names = list(eligible(SIMULATORS))
        assert drawn.shape == (600, len(names))
        assert (drawn.sum(axis=1) == 4).all()
        # Five standard deviations of a binomial share.
        share = 4 / len(names)
        assert np.abs(drawn.mean(axis=0) - share).max() < 5 * (share * (1 - share) / 600) ** 0.5
        assert len({row.tobytes() for row in drawn}) > 300  # not a few patterns

    def test_a_video_s_draw_is_its_own(self) -> None:
        drawn = drawn_ladders(self.IDS, SIMULATORS, 4)
        assert (drawn_ladders(self.IDS[300:310], SIMULATORS, 4) == drawn[300:310]).all()

    @pytest.mark.parametrize("count", [None, 100])
    def test_all_where_that_is_wanted(self, count: int | None) -> None:
        assert drawn_ladders(self.IDS[:2], SIMULATORS, count).all()

    def test_scores_of_other_versions_are_passed_over(self) -> None:
        world = World(noise=0.5, videos=40)
        chosen = drawn_ladders(world.ids, CHOSEN, 1)
        known = dict(zip(world.ids, chosen, strict=True))
        names = list(eligible(CHOSEN))
        place = {CHOSEN[name].identity: index for index, name in enumerate(names)}
        alone = world.table.filter(
            pa.array([
                row["simulator"] is None or bool(known[row["video_id"]][place[row["simulator"]]])
                for row in world.table.to_pylist()
            ])
        )  # fmt: skip
        found, expected = (
            reference_versions(table, world.ids, CHOSEN, ["aa", "bb"], ladders=count)
            for table, count in ((world.table, 1), (alone, None))
        )
        assert len(alone) < len(world.table)
        assert found.simulators == expected.simulators
        assert (found.consensus.score == expected.consensus.score).all()
        assert (found.consensus.variance == expected.consensus.variance).all()


class TestMadeUpWorld:
    def test_unknown_sources_give_calibrated_margins(self) -> None:
        world = World(noise=0.5)
        versions = reference_versions(world.table, world.ids, CHOSEN, ["aa", "bb"], spread=SPREAD)
        # 20 000 pairs a bin leave a standard error of .004; a variance half or twice as large is off by .09.
        assert_calibrated(world.truth(versions), versions.consensus, 0.02)

    def test_known_sources_give_calibrated_margins_on_any_scale(self) -> None:
        world = World(noise=1.0)
        random = np.random.default_rng(2)
        # The teachers say a mean with an error of .5; their consensus is its best estimate, on a T-score.
        seen = world.quality + 0.5 * random.standard_normal(len(world.ids))
        sources = Consensus(tuple(world.ids), 50 + 10 * seen / 1.25, np.full(len(seen), 100 * 0.25 / 1.25))
        known, unknown = (
            reference_versions(world.table, world.ids, CHOSEN, ["aa", "bb"], sources=which, spread=SPREAD)
            for which in (sources, None)
        )
        assert known.consensus.variance.mean() < unknown.consensus.variance.mean()
        # Noise widens the ranks' distribution beyond the true drops', which costs up to .02.
        assert_calibrated(world.truth(known), known.consensus, 0.03)

    def test_disagreement_raises_the_variance(self) -> None:
        calm, noisy = (
            reference_versions(
                world.table, world.ids, CHOSEN, ["aa", "bb"], spread=SPREAD
            ).consensus.variance.mean()
            for world in (World(noise=0.2, videos=300), World(noise=1.5, videos=300))
        )
        assert 1 < calm < 1.2 < noisy

    def test_one_contested_version_is_more_doubtful_than_its_neighbours(self) -> None:
        loss = np.linspace(0.1, 1, 200 * len(NAMES) * LEVELS).reshape(200, len(NAMES), LEVELS)
        contested = loss.copy()
        contested[7, 1, 2] = 1.5  # mild to one metric, the worst of all to the other
        table = scores_table(200, {"aa": 1 - loss, "bb": 1 - contested})
        versions = reference_versions(table, [f"{n:05d}" for n in range(200)], CHOSEN, ["aa", "bb"])
        where = (7 * len(NAMES) + 1) * LEVELS + 2
        assert versions.consensus.variance.argmax() == where

    def test_the_median_version_lies_the_spread_below_its_source(self) -> None:
        world = World(noise=0.0, videos=300)
        for spread in (0.5, 3.0):
            versions = reference_versions(world.table, world.ids, CHOSEN, ["aa", "bb"], spread=spread)
            assert np.median(versions.consensus.score) == pytest.approx(-spread, rel=0.01)  # 3000 ranks

    def test_a_metric_s_own_scale_does_not_matter(self) -> None:
        world = World(noise=0.5, videos=50)
        squared = world.table.set_column(
            READ_SCHEMA.get_field_index("score"),
            READ_SCHEMA.field("score"),
            pa.array(1 - (1 - world.table["score"].to_numpy()) ** 2),
        )
        plain, bent = (
            reference_versions(table, world.ids, CHOSEN, ["aa", "bb"]).consensus
            for table in (world.table, squared)
        )
        np.testing.assert_allclose(plain.score, bent.score)
        np.testing.assert_allclose(plain.variance, bent.variance)

    def test_splits_of_one_table_share_their_scale_and_the_rows_order_is_free(self) -> None:
        world = World(noise=0.5, videos=40)
        whole = reference_versions(world.table, world.ids, CHOSEN, ["aa", "bb"])
        shuffled = world.table.take(np.random.default_rng(0).permutation(world.table.num_rows))
        part = reference_versions(shuffled, world.ids[30:], CHOSEN, ["aa", "bb"])

        def by_key(versions: Versions) -> dict[tuple[str, str, int], float]:
            keys = zip(
                versions.consensus.video_ids, versions.simulators, versions.levels.tolist(), strict=True
            )
            return dict(zip(keys, versions.consensus.score.tolist(), strict=True))

        expected = by_key(whole)
        assert len(by_key(part)) == 10 * len(NAMES) * LEVELS
        assert by_key(part) == pytest.approx({key: expected[key] for key in by_key(part)})


class TestWhatCounts:
    def test_sources_have_no_drop_and_unscored_versions_are_left_out(self) -> None:
        table = scores_table(3, {"aa": np.full((3, 2, LEVELS), 0.5), "bb": np.full((3, 2, LEVELS), 0.9)})
        source = [{**row, "simulator": None, "level": 0, "score": 1.0} for row in table.to_pylist()[:1]]
        source += [{**source[0], "fingerprint": "bb"}]
        table = pa.concat_tables([table.slice(1), pa.Table.from_pylist(source, schema=READ_SCHEMA)])
        versions = reference_versions(table, ["00000"], CHOSEN, ["aa", "bb"])
        keys = list(zip(versions.simulators, versions.levels.tolist(), strict=True))
        assert ("", 0) in keys
        assert ("gaussian_blur", 1) not in keys  # only one metric scored it
        assert len(keys) == 2 * LEVELS
        assert versions.consensus.score[keys.index(("", 0))] == 0
        assert set(versions.consensus.video_ids) == {"00000"}

    def test_simulators_that_move_pixels_are_passed_over(self) -> None:
        kept = eligible(SIMULATORS)
        assert {"gaussian_blur", "gaussian_noise", "darken", "jpeg", "h264"} <= set(kept)
        assert not {"jitter", "stutter", "freeze", "frame_rate"} & set(kept)
        table = scores_table(2, {"aa": np.full((2, 2, LEVELS), 0.5), "bb": np.full((2, 2, LEVELS), 0.9)})
        with pytest.raises(InputError, match="has a version that all of the metrics aa, bb scored"):
            reference_versions(table, ["00000"], {"stutter": SIMULATORS["stutter"]}, ["aa", "bb"])

    def test_a_source_that_no_teacher_knows_is_an_average_one(self) -> None:
        world = World(noise=0.5, videos=4)
        sources = Consensus(("00000", "00001", "00002"), np.array([1.0, 3.0, np.nan]), np.array([0.5, 1, 1]))
        versions = reference_versions(world.table, world.ids, CHOSEN, ["aa", "bb"], sources=sources)
        plain = reference_versions(world.table, world.ids, CHOSEN, ["aa", "bb"])
        video = np.array(versions.consensus.video_ids)
        moved = versions.consensus.score - plain.consensus.score
        doubt = versions.consensus.variance - plain.consensus.variance
        for name, score, variance in (
            ("00000", -1, 0.5), ("00001", 1, 1), ("00002", 0, 1), ("00003", 0, 1),
        ):  # fmt: skip
            np.testing.assert_allclose(moved[video == name], score, atol=1e-12)
            np.testing.assert_allclose(doubt[video == name], variance - 1, atol=1e-12)

    def test_half_normal_scores_begin_at_zero_whatever_the_number(self) -> None:
        damage = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 9.0])
        scores = half_normal_scores(damage)
        assert scores[:2].tolist() == [0, 0]
        assert 0 < scores[2] < scores[3] == scores[4] < scores[5]
        many = half_normal_scores(np.linspace(1e-3, 1, 9999))
        assert many[0] < 1e-3
        assert np.median(many) == pytest.approx(norm.ppf(0.75), abs=1e-3)  # 9999 ranks

    @pytest.mark.parametrize(
        ("annotators", "spread", "message"),
        [
            (["aa"], 2.0, "given 1 full-reference metrics; give at least two"),
            (["aa", "aa"], 2.0, "given 1 full-reference metrics"),
            (["aa", "cc"], 2.0, "all of the metrics aa, cc scored"),
            (["aa", "bb"], 0.0, r"spread of reference labels is 0\.0"),
        ],
    )
    def test_wrong_requests_are_one_sentence(
        self, annotators: list[str], spread: float, message: str
    ) -> None:
        world = World(noise=0.5, videos=2)
        with pytest.raises(InputError, match=message):
            reference_versions(world.table, world.ids, CHOSEN, annotators, spread=spread)

    def test_sources_that_do_not_differ_are_one_sentence(self) -> None:
        world = World(noise=0.5, videos=2)
        flat = Consensus(tuple(world.ids), np.ones(2), np.ones(2))
        with pytest.raises(InputError, match="The 2 scored sources"):
            reference_versions(world.table, world.ids, CHOSEN, ["aa", "bb"], sources=flat)


@needs_data
def test_on_real_clips_a_strong_distortion_is_below_a_mild_one_of_another_content(tmp_path: Path) -> None:
    videos = [
        probe(DATA / "clips" / name)
        for name in ("carphone_pristine.mp4", "bigbuckbunny.mp4", "1724.mp4", "nasa_13013.mp4")
    ]
    chosen = {name: DISTORTIONS[name] for name in ("gaussian_blur", "gaussian_noise", "jpeg", "contrast")}
    requests = [
        Request(video, distortion, level)
        for video in videos
        for distortion in chosen.values()
        for level in range(1, len(distortion.levels) + 1)
    ]
    store = LabelStore(tmp_path)
    metrics: tuple[Metric, ...] = ("ssim", "gmsd")
    teachers = [FullReference(metric, segments=2, frames=1, window=96) for metric in metrics]
    for teacher in teachers:
        annotate_missing(teacher, requests, store, 0)
    versions = reference_versions(
        store.read(0), [video.video_id for video in videos], chosen, [t.fingerprint for t in teachers]
    )
    assert len(versions.levels) == len(requests)
    score = dict(
        zip(
            zip(versions.consensus.video_ids, versions.simulators, versions.levels.tolist(), strict=True),
            versions.consensus.score.tolist(),
            strict=True,
        )
    )
    for strong in videos:
        for mild in videos:
            if strong is not mild:
                for simulator in chosen:
                    for other in ("gaussian_blur", "jpeg"):
                        assert score[strong.video_id, simulator, 5] < score[mild.video_id, other, 1]
