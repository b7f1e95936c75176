"""Teachers that cut clips alike: one pass gives each what it gives alone, and reads only what is missing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import Tensor

from datamodules.corpus import build_corpus, videos
from datamodules.distortions import DISTORTIONS
from datamodules.labels import ClipDataset, ClipItem, LabelStore, Request, annotate_missing
from datamodules.teachers import Laplacian, Teacher
from datamodules.teachers.one_reading import alike, annotate_together
from datamodules.video import Sampling

CUT = Laplacian().sampling


class Brightness(Teacher):
    def __init__(self, name: str = "brightness", sampling: Sampling = CUT) -> None:
        super().__init__(name, sampling)

    def score(self, clips: Tensor) -> Tensor:
        return clips.mean(dim=(1, 2, 3, 4))


@pytest.fixture(scope="module")
def requests(mixed_corpus: Path) -> list[Request]:
    found = videos(build_corpus(mixed_corpus, cache=mixed_corpus / "cache", progress=False))
    blurred = [Request(found[0], DISTORTIONS["gaussian_blur"], level) for level in (1, 2, 3)]
    return [Request(video) for video in found] + blurred


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Requests that were read, one by one."""
    read, asked = ClipDataset.read, []

    def counted(self: ClipDataset, workers: int) -> Iterator[ClipItem]:
        for item in read(self, workers):
            asked.append(item.position)
            yield item

    monkeypatch.setattr(ClipDataset, "read", counted)
    return asked


def test_groups_are_those_that_cut_alike() -> None:
    other = Brightness("other", Sampling(frames=2, window=64))
    same, third = Brightness(), Laplacian()
    assert list(alike([same, other, third])) == [[same, third], [other]]


def test_each_is_given_what_it_gives_alone_and_clips_are_read_once(
    requests: list[Request], tmp_path: Path, reads: list[int]
) -> None:
    teachers = [Laplacian(), Brightness()]
    together, alone = LabelStore(tmp_path / "together"), LabelStore(tmp_path / "alone")
    assert annotate_together(teachers, requests, together) == {
        "laplacian": len(requests),
        "brightness": len(requests),
    }
    assert len(reads) == len(requests)
    for teacher in teachers:
        annotate_missing(teacher, requests, alone, 0)
        found, expected = (
            {
                (row["video_id"], row["level"]): row["score"]
                for row in store.read(round=0, fingerprint=teacher.fingerprint).to_pylist()
            }
            for store in (together, alone)
        )
        # Batches of other clips: float32 sums differ in their last digits.
        assert found == pytest.approx(expected, rel=1e-5)


def test_only_what_is_missing_of_each_is_read(
    requests: list[Request], tmp_path: Path, reads: list[int]
) -> None:
    store = LabelStore(tmp_path)
    annotate_missing(Laplacian(), requests, store, 0)
    annotate_missing(Brightness(), requests[:2], store, 0)
    reads.clear()
    done = annotate_together([Laplacian(), Brightness()], requests, store)
    assert done == {"laplacian": 0, "brightness": len(requests) - 2}
    assert len(reads) == len(requests) - 2
    assert annotate_together([Laplacian(), Brightness()], requests, store) == {
        "laplacian": 0,
        "brightness": 0,
    }


def test_ranks_share_the_work(requests: list[Request], tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    teachers = [Laplacian(), Brightness()]
    counts = [annotate_together(teachers, requests, store, rank=rank, world_size=2) for rank in (0, 1)]
    assert sum(count["brightness"] for count in counts) == len(requests)
    assert abs(counts[0]["laplacian"] - counts[1]["laplacian"]) <= 1
