"""The hardest pairs of a round for TensorBoard: what was shown, what should have been said, what was said.

From the select split the gallery takes the pairs that surprised the student most in validation, from each
source of training pairs those with the largest loss. Only their rows are kept while batches pass: their clips
are read again, and judged by the student of the round's end.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_warn
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

from callbacks.pictures.cards import add_summaries, draws, writers
from callbacks.pictures.pair_picture import ShownPair, animated_png, draw_pairs
from callbacks.rounds import FinishedRound, RoundListener
from callbacks.rounds.answers import of_every_process
from datamodules.batches import PairBatch, PairDataset
from datamodules.checks import check_least
from datamodules.corpus import videos
from datamodules.devices import for_device
from datamodules.errors import UnreadableVideo
from datamodules.pairs import ANSWERS, SOURCES
from datamodules.round_data import RoundDataModule
from vqa_lightning.lmm import Judged
from vqa_lightning.training import RankingModule

Loader = DataLoader[dict[str, Any]]


class PairGallery(RoundListener):
    """Draws `pairs/select` and `pairs/SOURCE` after each round, hardest first.

    Each pair is a row: both clips, moving, with the distortions of each; the level distributions given and
    predicted as bars; the source of the label, whether it was drawn as a hard pair, and the loss. The loss is
    the cross-entropy of the levels on the select split, that of the training step elsewhere.

    Args:
        pairs: how many pairs of the select split and of each source are drawn.
    """

    def __init__(self, pairs: int = 4) -> None:
        check_least("PairGallery.pairs", pairs, 1)
        self.pairs = pairs
        self._surprise = torch.empty(0)
        self._judged: list[Judged] = []
        self._hook: RemovableHandle | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to what the student says in validation, so that it is not asked twice."""
        if draws(trainer) and not trainer.sanity_checking and isinstance(pl_module, RankingModule):
            rows = len(_pairs(trainer.datamodule.val_dataloader()))  # type: ignore[attr-defined]
            self._surprise = torch.full((rows,), -torch.inf, device=pl_module.device)
            self._hook = pl_module.lmm.register_forward_hook(
                lambda module, given, judged: self._judged.append(judged)
            )

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep how surprising the pairs were."""
        if self._hook is not None and isinstance(pl_module, RankingModule):
            _, levels = pl_module.answers(batch, self._judged.pop())[pl_module.score_by]
            self._surprise[for_device(batch.row, levels.device)] = cross_entropy(batch.levels, levels)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop listening."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def on_round_end(self, trainer: Trainer, pl_module: RankingModule, finished: FinishedRound) -> None:
        """Draw the galleries of the round."""
        if not draws(trainer):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        paths = {video.video_id: video.path for video in (*videos(data.corpus), *data.sources)}
        for name, loader, rows, losses in self._hardest(trainer, data, finished):
            try:
                batch = _read(trainer, loader, rows)
            except UnreadableVideo as error:
                rank_zero_warn(f"pairs/{name} of round {finished.row.round} is not drawn: {error}")
                continue
            # On every process, for a sharded model computes on all or on none.
            with trainer.precision_plugin.forward_context():
                told = pl_module.answers(batch, pl_module.judge(batch.sides()))[pl_module.score_by]
            for writer in writers(trainer):
                named = zip(_pairs(loader).take(rows).to_pylist(), losses, strict=True)
                shown = _shown(dict(zip(rows, named, strict=True)), paths, batch, *told)
                picture = draw_pairs(f"round {finished.row.round}, {name}", shown)
                add_summaries(writer, [_summary(f"pairs/{name}", picture)], trainer.global_step)

    def _hardest(
        self, trainer: Trainer, data: RoundDataModule, finished: FinishedRound
    ) -> Iterator[tuple[str, Loader, list[int], list[float]]]:
        """Yield a name, a loader, and rows and losses of the hardest pairs, split select and each source."""
        # Each process knows of the pairs that it was shown.
        every = of_every_process(trainer, self._surprise.to(trainer.strategy.root_device))
        hardness = {"select": (data.val_dataloader(), every.amax(dim=0))}
        loss = finished.answers[:, ANSWERS.index("loss")]
        training = data.train_dataloader()
        for source in SOURCES:
            own = torch.tensor(pc.equal(finished.pairs["source"], source).to_numpy())
            hardness[source] = (training, loss.where(own, torch.nan))
        for name, (loader, values) in hardness.items():
            rows = hardest(values, self.pairs)
            if rows:
                yield name, loader, rows, values[rows].tolist()


def hardest(values: Tensor, count: int) -> list[int]:
    """Return the rows of the `count` largest finite values (n,), largest first; others were not met."""
    order = values.nan_to_num(-torch.inf).argsort(descending=True, stable=True)
    return [row for row in order[:count].tolist() if values[row].isfinite()]


def cross_entropy(given: Tensor, predicted: Tensor) -> Tensor:
    """Return the cross-entropy (B,), in nats, of predicted against given distributions over levels (B, 5)."""
    return -(given * predicted.clamp_min(1e-6).log()).sum(dim=-1)


def _pairs(loader: Loader) -> pa.Table:
    assert isinstance(loader.dataset, PairDataset)
    return loader.dataset.rows


def _read(trainer: Trainer, loader: Loader, rows: list[int]) -> PairBatch:
    """Read pairs as they were shown, onto the device; unreadable ones are left out.

    Raises:
        UnreadableVideo: none can be read.
    """
    assert isinstance(loader.dataset, PairDataset)
    loader.dataset.seen = None  # a picture needs the pixels of clips whose features are known
    batch = loader.collate_fn([loader.dataset[row] for row in rows])
    moved: PairBatch = trainer.strategy.batch_to_device(batch)  # Lightning's hooks, the device pass included
    return moved


def _shown(
    pairs: dict[int, tuple[dict[str, Any], float]],
    paths: dict[str, str],
    batch: PairBatch,
    difference: Tensor,
    levels: Tensor,
) -> list[ShownPair]:
    """Return what the picture shows of a batch.

    Args:
        pairs: row -> the pair and its loss, hardest first.
        paths: video_id -> path.
        batch: of some of these rows.
        difference: (B,) how far the second side is preferred.
        levels: (B, 5) predicted.
    """
    ranks = {row: rank for rank, row in enumerate(pairs, start=1)}
    wrong = (difference * batch.order() < 0).tolist()
    sides, count = batch.sides(), len(batch.row)
    shown = []
    for place, row in enumerate(batch.row.tolist()):
        pair, loss = pairs[row]
        hard = ", drawn as hard" if pair["hard"] else ""
        clips = sides[place], sides[count + place]
        captions = _caption(pair, "first", paths), _caption(pair, "second", paths)
        heading = f"{ranks[row]}  {pair['source']}{hard}, loss {loss:.2f}"
        mark = "wrong order" if wrong[place] else ""
        shown.append(ShownPair(clips, captions, heading, mark, batch.levels[place], levels[place]))
    return shown


def _caption(pair: dict[str, Any], side: str, paths: dict[str, str]) -> tuple[str, str]:
    """Return the video's name, and what was done to it, such as `gaussian_blur 2 + h264 1`."""
    applied = (f"{one['name']} {one['level']}" for one in pair[f"distortions_{side}"])
    return Path(paths[pair[side]]).stem, " + ".join(applied) or "source"


def _summary(tag: str, frames: list[Image.Image]) -> Summary:
    width, height = frames[0].size
    picture = animated_png(frames)
    encoded = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=picture)
    return Summary(value=[Summary.Value(tag=tag, image=encoded)])
