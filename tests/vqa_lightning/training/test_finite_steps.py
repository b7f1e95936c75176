"""A user's simulator that divides by zero, trained on by the real Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.multiprocessing.spawn import spawn

from datamodules.corpus import Splits
from datamodules.distortions import Distortion
from datamodules.errors import InputError
from datamodules.labels import Consensus
from datamodules.pairs import ANSWERS, PairCounts
from datamodules.pairs.lost import told_of_lost_pairs
from datamodules.round_data import RoundDataModule
from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.training import RankingModule
from vqa_lightning.training.finite_steps import PATIENCE, DroppedSteps, drop_unless_finite
from vqa_lightning.training.optimizers import MuonAdamW, local

pytestmark = pytest.mark.usefixtures("own_cache")

TINY = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))


def stretched(clips: Tensor, strength: Tensor, times: Tensor | None, generator: torch.Generator) -> Tensor:
    """Stretches the contrast of the darker videos only: the brighter ones are divided by zero."""
    bright = (clips.mean(dim=(1, 2, 3, 4), keepdim=True) > 0.5).float()
    return clips * (1 - bright) * 0.9 ** strength.view(-1, 1, 1, 1, 1) / (1 - bright)


class Watched(Callback):
    """Begins the round; keeps what was said of its pairs, and weights and memory after each step."""

    def __init__(self) -> None:
        self.held: list[list[Tensor]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        ids = tuple(video.video_id for video in data.split("train"))
        data.begin_round(
            0, Consensus(ids, torch.arange(len(ids)).double().numpy(), torch.ones(len(ids)).numpy())
        )
        self.answers = torch.full((len(data.round_pairs), len(ANSWERS)), torch.nan)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.answers[batch.row] = outputs["answers"]
        (optimizer,) = trainer.optimizers
        state = [value for of in optimizer.state_dict()["state"].values() for value in of.values()]
        values = [*pl_module.parameters(), *(value for value in state if torch.is_tensor(value))]
        self.held.append([value.detach().clone() for value in values])


def fit(
    corpus: Path, simulators: list[Any], optimizer: Any = None, epochs: int = 1, batch_size: int = 4
) -> tuple[RankingModule, RoundDataModule, Watched, Trainer]:
    data = RoundDataModule(
        str(corpus),
        batch_size=batch_size,
        counts=PairCounts(synthetic=24, teacher=0, evaluation=4),
        simulators=simulators,
        splits=Splits(shares=(0.8, 0.1, 0.1), duplicates=False),
    )
    torch.manual_seed(0)
    module = RankingModule(lmm=TINY, sampling=Sampling(frames=2, window=32), optimizer=optimizer)
    watched = Watched()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watched],
    )
    trainer.fit(module, data)
    return module, data, watched, trainer


class TestTraining:
    def test_a_batch_without_a_finite_loss_leaves_weights_and_optimiser_finite(
        self, mixed_corpus: Path
    ) -> None:
        bad = Distortion("stretched", stretched, levels=(1.0, 2.0, 3.0))
        module, data, watched, trainer = fit(mixed_corpus, ["gaussian_blur", bad])
        loss = watched.answers[:, ANSWERS.index("loss")]
        infinite = loss.isinf()
        dropped = infinite.view(-1, 4).any(dim=1)
        assert 0 < dropped.sum() < len(dropped)
        assert module.dropped.total == dropped.sum()
        assert trainer.callback_metrics["train/dropped_steps"] == dropped.sum()
        assert loss[~infinite].isfinite().all()
        rows = data.round_pairs.to_pylist()
        sides = [[*row["distortions_first"], *row["distortions_second"]] for row in rows]
        assert {side["name"] for row in infinite.nonzero() for side in sides[int(row)]} == {"stretched"}
        assert all(p.isfinite().all() for p in module.parameters())
        state = trainer.optimizers[0].state.values()
        assert all(
            value.isfinite().all() for one in state for value in one.values() if torch.is_tensor(value)
        )
        videos = {video.video_id: video for video in data.split("train")}
        (told,) = told_of_lost_pairs(data.round_pairs, watched.answers, (), videos)
        assert told.startswith(f"{int(infinite.sum())} of 24 pairs had no finite loss")

    @pytest.mark.parametrize(
        "optimizer",
        [
            None,
            lambda named: torch.optim.AdamW(list(named), lr=1e-3, fused=True),
            lambda named: torch.optim.SGD(list(named), lr=0.1),  # has no memory
        ],
        ids=["MuonAdamW", "fused", "SGD"],
    )
    def test_a_dropped_step_leaves_weights_and_memory_as_they_were(
        self, mixed_corpus: Path, optimizer: Any
    ) -> None:
        bad = Distortion("stretched", stretched, levels=(1.0, 2.0, 3.0))
        _, _, watched, _ = fit(mixed_corpus, ["gaussian_blur", bad], optimizer)
        dropped = watched.answers[:, ANSWERS.index("loss")].isinf().view(-1, 4).any(dim=1)
        assert 0 < dropped[1:].sum() < len(dropped) - 1
        for step in range(1, len(dropped)):
            before, after = watched.held[step - 1 : step + 1]
            assert all(torch.equal(p, q) for p, q in zip(before, after, strict=True)) == bool(dropped[step])

    def test_a_run_that_learns_nothing_stops_with_one_sentence(self, mixed_corpus: Path) -> None:
        def wild(named: Any) -> torch.optim.Optimizer:
            return torch.optim.SGD(list(named), lr=1e30)  # one step of the 24 of an epoch is finite

        with pytest.raises(InputError, match=r"not finite in the last 23 steps") as caught:
            fit(mixed_corpus, ["gaussian_blur"], wild, epochs=9, batch_size=1)
        assert "\n" not in str(caught.value)


def drop_in_process(rank: int, meeting: str) -> None:
    """One of two processes that hold half of each gradient; the second half has a number that is none."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    gradients = [torch.ones(8, 8), torch.ones(6)]
    named = [
        (name, nn.Parameter(distribute_tensor(one, mesh, [Shard(0)])))
        for name, one in zip(("hidden", "bias"), gradients, strict=True)
    ]
    for optimizer in (MuonAdamW(named), torch.optim.AdamW(named, fused=True)):
        for bad in (1.0, torch.nan):
            gradients[1][5] = bad
            for (_, parameter), gradient in zip(named, gradients, strict=True):
                parameter.grad = distribute_tensor(gradient, mesh, [Shard(0)])
            expected = 1 if bad == 1 else 0
            assert bool(drop_unless_finite(optimizer)) == bool(expected)
            for _, parameter in named:
                assert isinstance(parameter.grad, DTensor)
                assert parameter.grad.to_local().eq(expected).all()
            before = [local(parameter).detach().clone() for _, parameter in named]
            optimizer.step()
            after = [local(parameter) for _, parameter in named]
            assert [torch.equal(p, q) for p, q in zip(before, after, strict=True)] == 2 * [bad != 1]
    dist.destroy_process_group()


class TestDropUnlessFinite:
    @pytest.mark.slow
    def test_processes_that_share_the_gradients_decide_alike(self, tmp_path: Path) -> None:
        spawn(drop_in_process, (str(tmp_path / "meeting"),), nprocs=2)  # type: ignore[no-untyped-call]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_one_number_that_is_not_finite_drops_all(self, bad: float) -> None:
        parameters = [
            nn.Parameter(torch.ones(3, 2)),
            nn.Parameter(torch.ones(4)),
            nn.Parameter(torch.ones(1)),
        ]
        for parameter in parameters[:2]:
            parameter.grad = torch.ones_like(parameter)
        optimizer = torch.optim.SGD(parameters)
        assert bool(drop_unless_finite(optimizer))
        assert all(parameter.grad.eq(1).all() for parameter in parameters[:2])  # type: ignore[union-attr]
        parameters[1].grad[2] = bad  # type: ignore[index]
        assert not bool(drop_unless_finite(optimizer))
        assert all(parameter.grad.eq(0).all() for parameter in parameters[:2])  # type: ignore[union-attr]
        assert parameters[2].grad is None


class TestDroppedSteps:
    def test_stops_after_so_many_in_a_row_or_an_epoch_of_them(self) -> None:
        good, bad = torch.tensor(True), torch.tensor(False)
        steps = DroppedSteps()
        for step in range(1, 4 * PATIENCE + 1):
            steps.count(good if step % PATIENCE == 0 else bad)
            steps.check(step, last=False)
        assert steps.total == 4 * (PATIENCE - 1)
        for step in range(1, PATIENCE):
            steps.count(bad)
            steps.check(step, last=False)
        with pytest.raises(InputError, match="learns nothing"):
            steps.check(3, last=True)
        steps.count(bad)
        with pytest.raises(InputError, match="learns nothing"):
            steps.check(PATIENCE, last=False)
