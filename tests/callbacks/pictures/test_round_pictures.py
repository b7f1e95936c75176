"""All that TensorBoard is given, from the events of one short run."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from callbacks.pictures import PairGallery, RoundPictures, SourceScalars
from callbacks.pictures.pair_gallery import cross_entropy, hardest
from callbacks.rounds import FinishedRound, RoundListener, SelfImprovement
from callbacks.runs import RunSettings
from callbacks.runs.settings import FOLDER
from datamodules.corpus import Splits
from datamodules.pairs import PairCounts
from datamodules.round_data import RoundDataModule
from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.scoring import Scoring
from vqa_lightning.training import RankingModule

TINY = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))
ROUNDS, FRAMES = 2, 2
PICTURES = (
    *("labels_flipped_in_round", "labels_flipped_since_start", "levels_confused"),
    *("scores_by_annotator", "scores_by_severity", "scores_come_true"),
)


class Keeper(RoundListener):
    """Keeps the last round, and what the pictures remember of it."""

    def on_round_end(self, trainer: Trainer, pl_module: RankingModule, finished: FinishedRound) -> None:
        self.finished, self.trainer = finished, trainer


def fit(corpus: Path, folder: Path, *, logger: bool) -> Keeper:
    data = RoundDataModule(
        str(corpus),
        batch_size=4,
        counts=PairCounts(synthetic=12, teacher=8, evaluation=6),
        simulators=["gaussian_blur", "gaussian_noise"],
        labels=str(folder / "labels"),
        splits=Splits(shares=(0.4, 0.3, 0.3), duplicates=False),
    )
    parser = LightningArgumentParser()
    parser.add_argument("--seed", type=int, default=3)
    keeper = Keeper()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=ROUNDS if logger else 1,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=folder,
        logger=TensorBoardLogger(folder, name="run", version=0) if logger else False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            SelfImprovement(calibration_simulators=["jpeg"]),
            PairGallery(pairs=2),
            RoundPictures(),
            SourceScalars(),
            RunSettings(),
            keeper,
            SaveConfigCallback(parser, Namespace(seed=3)),
        ],
    )
    module = RankingModule(lmm=TINY, sampling=Sampling(frames=FRAMES, window=32), scoring=Scoring(draws=2))
    trainer.fit(module, data)
    return keeper


@pytest.fixture(scope="module")
def run(
    mixed_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Keeper, EventAccumulator]]:
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        keeper = fit(mixed_corpus, folder, logger=True)
        events = EventAccumulator(str(folder / "run" / "version_0"), size_guidance={"images": 0})
        yield keeper, events.Reload()


class TestPictures:
    def test_every_round_has_each_of_them(self, run: tuple[Keeper, EventAccumulator]) -> None:
        _, events = run
        names = {f"pictures/{name}" for name in PICTURES} | {
            f"pairs/{name}" for name in ("select", "synthetic", "teacher")
        }
        assert set(events.Tags()["images"]) == names
        for name in names:
            assert len(events.Images(name)) == ROUNDS

    def test_galleries_move(self, run: tuple[Keeper, EventAccumulator]) -> None:
        _, events = run
        for name in ("select", "synthetic", "teacher"):
            with Image.open(io.BytesIO(events.Images(f"pairs/{name}")[-1].encoded_image_string)) as picture:
                assert picture.n_frames == FRAMES

    def test_labels_are_followed_through_a_checkpoint(
        self, run: tuple[Keeper, EventAccumulator], tmp_path: Path
    ) -> None:
        keeper, _ = run
        pictures = next(one for one in keeper.trainer.callbacks if isinstance(one, RoundPictures))
        torch.save(pictures.state_dict(), tmp_path / "state.ckpt")
        resumed = RoundPictures()
        resumed.load_state_dict(torch.load(tmp_path / "state.ckpt", weights_only=True))
        assert resumed.state_dict() == pictures.state_dict()
        flows = torch.tensor(resumed.state_dict()["flows"])
        assert flows.shape == (ROUNDS, 5, 5)
        # What one re-annotation leaves behind, the next one finds.
        assert flows[0].sum(dim=0).tolist() == flows[1].sum(dim=1).tolist()

    def test_without_tensorboard_nothing_is_drawn_and_nothing_fails(
        self, run: tuple[Keeper, EventAccumulator], mixed_corpus: Path, tmp_path: Path
    ) -> None:
        fit(mixed_corpus, tmp_path, logger=False)
        assert not list(tmp_path.rglob("events*"))


class TestScalars:
    def test_losses_by_source_lie_around_the_loss_of_all(self, run: tuple[Keeper, EventAccumulator]) -> None:
        _, events = run
        found: dict[int, list[float]] = {}
        for source in ("synthetic", "teacher"):
            for point in events.Scalars(f"train/loss/{source}"):
                found.setdefault(point.step, []).append(point.value)
        every = {point.step: point.value for point in events.Scalars("train/loss")}
        assert found.keys() == every.keys()
        for step, losses in found.items():
            assert min(losses) - 1e-4 <= every[step] <= max(losses) + 1e-4  # summed in another order

    def test_rank_accuracy_is_a_share(self, run: tuple[Keeper, EventAccumulator]) -> None:
        _, events = run
        points = events.Scalars("train/rank_accuracy/synthetic")
        assert points
        assert all(0 <= point.value <= 1 for point in points)


class TestSettings:
    def test_the_configuration_lies_beside_the_last_figures(
        self, run: tuple[Keeper, EventAccumulator]
    ) -> None:
        keeper, events = run
        own = EventAccumulator(str(Path(events.path) / FOLDER)).Reload()
        content = own.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        told = HParamsPluginData.FromString(content).session_start_info.hparams
        assert {name: value.number_value for name, value in told.items()} == {"seed": 3}
        points = own.Scalars("final/rank_accuracy")
        assert [point.step for point in points] == [*range(ROUNDS)]
        assert points[-1].value == pytest.approx(keeper.finished.row.rank_accuracy, rel=1e-6)  # float32

    def test_lightning_tells_no_others(self, run: tuple[Keeper, EventAccumulator]) -> None:
        _, events = run
        assert "hp_metric" not in events.Tags()["scalars"]
        assert not any(tag.startswith("_hparams_") for tag in events.Tags()["tensors"])


class TestHardest:
    def test_the_largest_come_first_and_those_not_met_never(self) -> None:
        nan, inf = float("nan"), float("inf")
        assert hardest(torch.tensor([1.0, nan, 3.0, 2.0, -inf]), 4) == [2, 3, 0]

    def test_cross_entropy_is_least_where_the_label_is_predicted(self) -> None:
        given = torch.eye(5)
        assert cross_entropy(given, given).tolist() == pytest.approx([0] * 5, abs=1e-6)
        assert (cross_entropy(given, given.roll(1, 0)) > 10).all()  # -log of the least that counts, 1e-6
