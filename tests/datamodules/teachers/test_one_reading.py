"""Teachers that cut clips alike: one pass gives each what it gives alone, and reads only what is missing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from datamodules import FullReference
from datamodules.codecs import CODECS
from datamodules.corpus import build_corpus, videos
from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.labels import ClipDataset, ClipItem, LabelStore, Request, annotate_missing
from datamodules.labels.label_store import Key
from datamodules.teachers import Laplacian, Teacher
from datamodules.teachers.one_reading import alike, annotate_together
from datamodules.video import Sampling

CUT = Laplacian().sampling


class Brightness(Teacher):
    in_workers = True

    def __init__(self, name: str = "brightness", sampling: Sampling = CUT) -> None:
        super().__init__(name, sampling)

    def score(self, clips: Tensor) -> Tensor:
        return clips.mean(dim=(1, 2, 3, 4))


class Broken(Brightness):
    def __init__(self) -> None:
        super().__init__("broken")

    def score(self, clips: Tensor) -> Tensor:
        raise ValueError("no weights")


class Watching:
    """Keeps the smallest value of each clip's first frame, less itself."""

    def __init__(self) -> None:
        self.kept: dict[Key, float] = {}

    def look(self, request: Request, item: ClipItem) -> Tensor:
        return item.frames[0, 0].float().min() * 0

    def keep(self, request: Request, seen: Tensor) -> None:
        self.kept[request.key] = seen.item()


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


class TestWorkers:
    """Light teachers score where clips are read."""

    def test_say_what_the_process_itself_says(self, requests: list[Request], tmp_path: Path) -> None:
        codec = [Request(requests[0].video, CODECS["h264"], level) for level in (1, 3)]
        said = []
        for workers in (0, 2):
            store = LabelStore(tmp_path / str(workers))
            teachers = [Brightness(), Laplacian(), FullReference("ssim", 4, 1, 512)]
            for group in alike(teachers):
                annotate_together(group, [*requests, *codec], store, workers=workers)
            rows = store.read(round=0).to_pylist()
            said.append({
                (row["fingerprint"], row["video_id"], row["simulator"], row["level"]): row["score"]
                for row in rows
            })  # fmt: skip
        assert len(said[0]) == 3 * (len(requests) + len(codec))
        assert said[0] == pytest.approx(said[1], rel=1e-5)

    @pytest.mark.parametrize("workers", [0, 1, 3])
    def test_a_broken_teacher_ends_the_run_with_its_sentence(
        self, requests: list[Request], tmp_path: Path, workers: int
    ) -> None:
        many = [
            replace(request, video=replace(request.video, video_id=f"{number}"))
            for number in range(8)
            for request in requests[:2]
        ]
        with pytest.raises(InputError, match=r"^broken failed on .*, as on all of the first 8 videos"):
            annotate_together([Broken()], many, LabelStore(tmp_path), workers=workers)

    def test_clips_come_back_only_where_they_are_wanted(
        self, requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read, sizes = ClipDataset.read, []

        def measured(self: ClipDataset, workers: int) -> Iterator[ClipItem]:
            for item in read(self, workers):
                sizes.append(item.frames.numel())
                yield item

        monkeypatch.setattr(ClipDataset, "read", measured)
        annotate_together([Brightness()], requests, LabelStore(tmp_path), workers=1)
        assert set(sizes) == {0}
        heavy = Brightness("heavy")
        heavy.in_workers = False
        done = annotate_together([Brightness(), heavy], requests, LabelStore(tmp_path), workers=1)
        assert done == {"brightness": 0, "heavy": len(requests)}
        assert sizes[-1] > 0

    def test_an_onlooker_is_shown_every_clip(self, requests: list[Request], tmp_path: Path) -> None:
        watching = Watching()
        annotate_together([Brightness()], requests, LabelStore(tmp_path), workers=1, onlooker=watching)
        assert watching.kept == {request.key: 0.0 for request in requests}
