from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.data import suggested_max_num_workers
from lightning.pytorch import Trainer

from datamodules.errors import InputError
from datamodules.video import Sampling
from datamodules.video_data import VideoDataModule, intervals
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.scoring import Scoring
from vqa_lightning.training import RankingModule

pytestmark = pytest.mark.usefixtures("own_cache")


def connected(data: VideoDataModule) -> VideoDataModule:
    """Gives the datamodule a model that it cuts clips for, and its videos."""
    lmm = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))
    module = RankingModule(lmm=lmm, sampling=Sampling(frames=2, window=32), scoring=Scoring(draws=2))
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.strategy.connect(module)
    data.setup("predict")
    return data


class TestIntervals:
    @pytest.mark.parametrize(
        ("duration", "length", "fps", "expected"),
        [
            (2.0, 1.0, 25.0, [(0.0, 1.0), (1.0, 2.0)]),
            (2.5, 1.0, 25.0, [(0.0, 1.0), (1.0, 2.0), (2.0, 2.5)]),
            (2.002, 1.0, 29.97, [(0.0, 1.0), (1.0, 2.0)]),  # no frame begins in the last 2 ms
            (0.3, 0.1, 10.0, [(0.0, 0.1), (0.1, 0.2), (0.2, 0.3)]),  # 0.1 * 3 is not 0.3
            (0.04, 1.0, 25.0, [(0.0, 0.04)]),
            (0.04, 1.0, 10.0, [(0.0, 0.04)]),  # shorter than a frame is said to last
        ],
    )
    def test_cover_the_video(
        self, duration: float, length: float, fps: float, expected: list[tuple[float, float]]
    ) -> None:
        assert intervals(duration, length, fps) == expected

    @pytest.mark.parametrize("length", [0.0, -1.0, float("nan"), float("inf")])
    def test_of_no_length_are_refused(self, length: float) -> None:
        with pytest.raises(InputError, match=r"data\.score_every"):
            VideoDataModule("videos", score_every=length)

    def test_shorter_than_any_frame_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"data\.score_every must be 0\.001 or more, or null; got 1e-05"):
            VideoDataModule("videos", score_every=1e-5)


def test_torchcodec_is_refused_with_the_reason() -> None:
    with pytest.raises(
        InputError, match=r"data\.reader must be pyav; got torchcodec: .* does not interpolate"
    ):
        VideoDataModule("videos", reader="torchcodec")


class TestPrediction:
    def test_asks_for_each_video_and_its_intervals(self, mixed_corpus: Path) -> None:
        data = connected(VideoDataModule(str(mixed_corpus), batch_size=4, score_every=0.2))
        batches = list(data.predict_dataloader())
        rows = [row for batch in batches for row in batch.rows]
        assert rows == list(range(len(data.requests))) == list(range(9 * 4))  # 12 frames at 25 a second
        assert [request.span for request in data.requests[:5]] == [
            None, (0.0, 0.2), (0.2, 0.4), (0.4, 0.48), None,
        ]  # fmt: skip
        assert [video.path for video in data.pending] == [request.video.path for request in data.requests]
        alone = connected(VideoDataModule(str(mixed_corpus), score_every=0.2, batch_size=1))
        for one, other in zip(
            (clips for batch in batches for clips in batch.clips),
            (clips for batch in alone.predict_dataloader() for clips in batch.clips),
            strict=True,
        ):
            assert torch.equal(one, other)

    def test_leaves_out_what_is_scored(self, mixed_corpus: Path) -> None:
        data = connected(VideoDataModule(str(mixed_corpus), score_every=0.2))
        first, second = data.rows[0].path, data.rows[1].path
        data.scored = lambda: {first}
        data.scored_spans = lambda: {(first, (0.2, 0.4)), (second, (0.0, 0.2))}
        data.predict_dataloader()
        assert [(request.video.path, request.span) for request in data.requests[:6]] == [
            (first, (0.0, 0.2)),
            (first, (0.4, 0.48)),
            (second, None),
            (second, (0.2, 0.4)),
            (second, (0.4, 0.48)),
            (data.rows[2].path, None),
        ]

    def test_decodes_ahead_where_there_is_something_to_decode(self, mixed_corpus: Path) -> None:
        spare = suggested_max_num_workers(1)
        data = connected(VideoDataModule(str(mixed_corpus)))
        assert 1 <= data.predict_dataloader().num_workers <= min(spare, 9)
        one = connected(VideoDataModule(str(next(mixed_corpus.glob("*.mp4")))))
        assert one.predict_dataloader().num_workers == 0
        asked = connected(VideoDataModule(str(mixed_corpus), workers=3))
        assert asked.predict_dataloader().num_workers == 3
