"""Reference labels: versions of clean sources on one scale, by the rank of what a metric says of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pytest

from datamodules.errors import InputError
from datamodules.labels import Consensus, Request
from datamodules.labels.references import CIRCUITS, References, reference_requests, reference_versions
from datamodules.video import Video

SOURCES = [Video(f"{name:04d}", f"{name}.mp4", 320, 240, 25.0, 1.0) for name in range(12)]
SETTINGS = References(versions=10)
METRIC = "0123456789ab"


def quality(request: Request) -> float:
    """A made-up truth: what a version of each number is worth, whatever its source."""
    return 100 - 90 * np.random.default_rng(request.level).random()


def table(requests: Sequence[Request], scores: Mapping[int, float] | None = None) -> pa.Table:
    rows = [
        {
            "video_id": request.video.video_id,
            "simulator": CIRCUITS.identity,
            "level": request.level,
            "segment": None,
            "fingerprint": METRIC,
            "score": quality(request) if scores is None else scores[place],
        }
        for place, request in enumerate(requests)
    ]
    schema = pa.schema({
        "video_id": pa.string(), "simulator": pa.string(), "level": pa.int64(), "segment": pa.int64(),
        "fingerprint": pa.string(), "score": pa.float64(),
    })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema)


class TestRequests:
    def test_each_source_is_asked_for_its_versions(self) -> None:
        requests = reference_requests(SOURCES, 10)
        assert len(requests) == 120
        assert len({request.key for request in requests}) == 120


class TestVersions:
    requests = reference_requests(SOURCES, 10)

    def test_scores_are_ranks_and_sources_stand_above_all(self) -> None:
        versions = reference_versions(table(self.requests), SOURCES, METRIC, SETTINGS)
        score, levels = versions.consensus.score, versions.levels
        assert (score[levels == 0] == 1).all()
        truth = np.array([quality(request) for request in self.requests])
        assert (np.argsort(score[levels > 0]) == np.argsort(truth)).all()
        assert score[levels > 0].min() == pytest.approx(0.5 / 120)
        assert score[levels > 0].max() == pytest.approx(1 - 0.5 / 120)

    def test_any_monotone_scale_gives_the_same(self) -> None:
        plain, bent = (
            reference_versions(
                table(self.requests, dict(enumerate(scale(quality(one)) for one in self.requests))),
                SOURCES,
                METRIC,
                SETTINGS,
            )
            for scale in (lambda value: value, lambda value: 1 - np.exp(-value / 30))
        )
        assert np.array_equal(plain.consensus.score, bent.consensus.score)

    def test_places_differ_by_the_margin(self) -> None:
        consensus = reference_versions(table(self.requests), SOURCES, METRIC, SETTINGS).consensus
        first, second = np.arange(60), np.arange(60, 120)
        margin = consensus.margin(first, second)
        assert consensus.places[second] - consensus.places[first] == pytest.approx(margin)

    def test_teachers_move_sources_that_are_not_clean(self) -> None:
        known = Consensus(tuple(one.video_id for one in SOURCES[:6]), np.arange(6.0), np.full(6, 0.5))
        clean, moved = (
            reference_versions(table(self.requests), SOURCES, METRIC, SETTINGS, quality=said).consensus
            for said in (None, known)
        )
        ids = np.array(clean.video_ids)
        shift = moved.score - clean.score
        # One standard deviation of the sources is .15 of the versions; what nobody knows stays in the middle.
        assert shift[ids == "0005"] == pytest.approx(0.15 * 2.5 / np.arange(6.0).std())
        assert shift[ids == "0009"] == pytest.approx(0)
        assert (moved.variance > clean.variance).all()
        assert moved.variance[ids == "0009"][0] > moved.variance[ids == "0005"][0]

    def test_scores_of_other_metrics_and_other_versions_do_not_count(self) -> None:
        with pytest.raises(InputError, match=r"data\.references must have versions that the metric vmaf"):
            reference_versions(table(self.requests), SOURCES, "another", SETTINGS)
        fewer = reference_versions(table(self.requests[:30]), SOURCES, METRIC, SETTINGS)
        assert (fewer.levels > 0).sum() == 30

    def test_teachers_that_tell_no_source_apart_are_refused(self) -> None:
        same = Consensus(tuple(one.video_id for one in SOURCES), np.ones(12), np.ones(12))
        with pytest.raises(InputError, match="must differ in what the teachers say"):
            reference_versions(table(self.requests), SOURCES, METRIC, SETTINGS, quality=same)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"versions": 1}, r"data\.references\.versions must be 2 or more; got 1\."),
        ({"metric": "psnr"}, r"data\.references\.metric must be one of vmaf, .*; got 'psnr'\."),
        ({"doubt": 0.0}, r"data\.references\.doubt must be more than 0; got 0\.0\."),
        ({"within": 1.5}, r"data\.references\.within must be from 0 to 1; got 1\.5\."),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        References(**settings)  # type: ignore[arg-type]
