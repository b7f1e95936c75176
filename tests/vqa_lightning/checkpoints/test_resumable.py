import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.errors import InputError
from datamodules.video import Sampling
from vqa_lightning.checkpoints import ResumableModule
from vqa_lightning.checkpoints.generators import generator_states, set_generators
from vqa_lightning.checkpoints.resumable import read_checkpoint, trained_names
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig, TrainedParts
from vqa_lightning.lmm.trained_parts import train_parts

CLIPS = torch.rand(8, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Scorer(ResumableModule):
    """Learns a constant score by adapters whose dropout draws from torch's global generator."""

    def __init__(self, parts: TrainedParts = TrainedParts("lora", rank=4, dropout=0.5)) -> None:  # noqa: B008
        super().__init__()
        self.parts = parts

    @property
    def drawn(self) -> tuple[str, ...]:
        return ("lmm.",)

    def configure_model(self) -> None:
        if "lmm" not in self._modules:
            sizes = LMMConfig(
                embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1)
            )
            self.lmm = LMM(sizes, Sampling(frames=2, window=32))
            train_parts(self.lmm, self.parts)

    def score(self, clips: Tensor) -> Tensor:
        tokens = self.lmm.encode(clips)
        return self.lmm.compare(tokens, tokens)[1]

    def training_step(self, clips: Tensor) -> Tensor:
        return (self.score(clips) - 1).square().mean()

    def validation_step(self, clips: Tensor) -> None:
        self.log("val/score", self.score(clips).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-2)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(CLIPS, batch_size=4)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


class DrawsAtEpochEnd(Callback):
    """As a loader does that a callback goes through."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.rand(1)


def fit(folder: Path, epochs: int, resume: Path | None = None, seed: int = 0, early: bool = False) -> Scorer:
    """Fits and saves at each epoch's end, or early: after its validation, before callbacks end it."""
    seed_everything(seed, verbose=False)
    module = Scorer()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        # As in our runs, whose pairs change from round to round; each reload draws from the global generator.
        reload_dataloaders_every_n_epochs=1,
        callbacks=[
            ModelCheckpoint(folder, save_last=True, save_on_train_epoch_end=not early),
            DrawsAtEpochEnd(),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, ckpt_path=resume, weights_only=True)
    return module


def trained(module: Scorer) -> dict[str, Tensor]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scorer]:
    """A run of one epoch: its last checkpoint and its module."""
    folder = tmp_path_factory.mktemp("run")
    return folder / "last.ckpt", fit(folder, epochs=1)


def loaded(path: Path, module: Scorer) -> Scorer:
    checkpoint = read_checkpoint(path)
    module.configure_model()
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval()


class TestResume:
    @pytest.mark.parametrize("early", [False, True])
    def test_a_run_that_was_stopped_ends_where_a_straight_one_does(self, early: bool, tmp_path: Path) -> None:
        straight = fit(tmp_path / "straight", epochs=2, early=early)
        stopped = fit(tmp_path / "stopped", epochs=1, early=early)
        # Another seed: all that is random must come from the checkpoint.
        last = tmp_path / "stopped" / "last.ckpt"
        resumed = fit(tmp_path / "resumed", epochs=2, resume=last, seed=1, early=early)
        there, here, before = (module.state_dict() for module in (straight, resumed, stopped))
        assert there.keys() == here.keys()
        assert all(torch.equal(there[name], here[name]) for name in there)
        assert any(not torch.equal(there[name], before[name]) for name in there)
        first, second = (
            torch.load(tmp_path / name / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"]
            for name in ("straight", "resumed")
        )
        assert all(torch.equal(first[p][name], second[p][name]) for p in first for name in first[p])

    def test_the_generators_of_all_libraries_come_back(self) -> None:
        cpu = torch.device("cpu")
        random.gauss(0, 1)  # leaves half of a pair behind
        np.random.standard_normal()  # noqa: NPY002
        kept = generator_states(cpu)

        def draw() -> list[float]:
            return [random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item()]  # noqa: NPY002

        expected = draw()
        assert draw() != expected
        set_generators(kept, cpu)
        assert draw() == expected

    def test_another_number_of_processes_is_warned_of(self, run: tuple[Path, Scorer], tmp_path: Path) -> None:
        checkpoint = torch.load(run[0], weights_only=True)
        checkpoint["generators"] *= 2
        torch.save(checkpoint, tmp_path / "two.ckpt")
        with pytest.warns(UserWarning, match="2 processes"):
            fit(tmp_path, epochs=2, resume=tmp_path / "two.ckpt")


class TestContents:
    def test_it_holds_what_is_trained_and_the_base_the_rest(self, run: tuple[Path, Scorer]) -> None:
        path, module = run
        held = torch.load(path, weights_only=True)["state_dict"]
        base = torch.load(path.with_name("base.ckpt"), weights_only=True)["state_dict"]
        assert held.keys() == trained(module).keys()  # no buffer of this module is persistent
        assert held.keys() | base.keys() == module.state_dict().keys()
        assert not held.keys() & base.keys()
        assert path.stat().st_size < path.with_name("base.ckpt").stat().st_size

    def test_its_size_is_told_once(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO"):
            fit(tmp_path, epochs=2)
        told = [record.getMessage() for record in caplog.records if " MB " in record.getMessage()]
        assert len(told) == 1

    def test_tied_parameters_are_held_under_all_their_names(self, tmp_path: Path) -> None:
        module = Scorer(TrainedParts("full"))
        module.configure_model()
        names = trained_names(module)
        assert "lmm.model.lm_head.weight" in names
        assert "lmm.model.model.language_model.embed_tokens.weight" in names

    def test_without_a_folder_for_the_base_it_holds_that_too(self, tmp_path: Path) -> None:
        trainer = Trainer(accelerator="cpu", barebones=True)
        module = Scorer()
        module.configure_model()
        trainer.strategy.connect(module)
        trainer.save_checkpoint(tmp_path / "alone.ckpt")
        module.eval()
        with torch.no_grad():
            assert torch.equal(loaded(tmp_path / "alone.ckpt", Scorer()).score(CLIPS), module.score(CLIPS))


class TestLoad:
    def test_it_scores_as_the_module_that_was_saved(self, run: tuple[Path, Scorer]) -> None:
        path, module = run
        torch.manual_seed(5)  # the base is the saved one, not what is drawn now
        again = loaded(path, Scorer())
        with torch.no_grad():
            assert torch.equal(again.score(CLIPS), module.eval().score(CLIPS))

    def test_a_folder_that_was_moved_is_no_trouble(self, run: tuple[Path, Scorer], tmp_path: Path) -> None:
        for file in (run[0], run[0].with_name("base.ckpt")):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        again = loaded(tmp_path / "last.ckpt", Scorer())
        with torch.no_grad():
            assert torch.equal(again.score(CLIPS), run[1].eval().score(CLIPS))

    @pytest.mark.parametrize("other", [False, True], ids=["missing", "of another run"])
    def test_without_its_base_it_is_refused(self, tmp_path: Path, other: bool) -> None:
        fit(tmp_path, epochs=1)
        (tmp_path / "base.ckpt").unlink()
        if other:
            fit(tmp_path / "other", epochs=1, seed=1)
            (tmp_path / "other" / "base.ckpt").rename(tmp_path / "base.ckpt")
        with pytest.raises(InputError, match=r"base\.ckpt") as caught:
            loaded(tmp_path / "last.ckpt", Scorer())
        assert "\n" not in str(caught.value)

    def test_what_is_missing_is_named(self, run: tuple[Path, Scorer]) -> None:
        module = Scorer()
        module.configure_model()
        checkpoint = read_checkpoint(run[0])
        del checkpoint["state_dict"]["lmm.score_head.weight"]
        with pytest.raises(InputError, match=r"lacks lmm\.score_head\.weight, which"):
            module.on_load_checkpoint(checkpoint)

    @pytest.mark.parametrize("extra", ["lmm.unknown", "lmm.model.lm_head.weight"])
    def test_what_is_not_trained_is_named(self, run: tuple[Path, Scorer], extra: str) -> None:
        class Published(Scorer):
            @property
            def drawn(self) -> tuple[str, ...]:
                return ()

        module = Published()
        module.configure_model()
        checkpoint = read_checkpoint(run[0])
        checkpoint["state_dict"][extra] = torch.zeros(1)
        with pytest.raises(InputError, match=rf"holds {extra}, which"):
            module.on_load_checkpoint(checkpoint)
