import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from callbacks.rounds import FinishedRound, RoundListener, SelfImprovement
from callbacks.rounds.requests import SLOW
from datamodules.corpus import Splits
from datamodules.errors import InputError
from datamodules.labels import LabelStore
from datamodules.pairs import LaterRounds, PairCounts
from datamodules.round_data import RoundDataModule
from datamodules.simulators import SIMULATORS
from datamodules.teachers.artefacts import Artefacts
from datamodules.teachers.natural_scenes.niqe import NIQE
from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.scoring import Scoring
from vqa_lightning.scoring.calibration import fit_errors
from vqa_lightning.training import RankingModule

TINY = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))


class Watch(RoundListener):
    """Keeps what every round found, and the weights with which the next one began."""

    def __init__(self) -> None:
        self.finished: list[FinishedRound] = []
        self.began: list[dict[str, Tensor]] = []
        self.ended: list[dict[str, Tensor]] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not batch_idx:
            self.began.append(weights_of(pl_module))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_round_end(self, trainer: Trainer, pl_module: RankingModule, finished: FinishedRound) -> None:
        assert not pl_module.training
        self.finished.append(finished)
        self.ended.append(weights_of(pl_module))


class Sharpness(RankingModule):
    """Scores by how much neighbouring pixels differ, and from an epoch on by how little."""

    def __init__(self, turned_from: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.turned_from = turned_from

    def rate(self, clips: Tensor) -> Tensor:
        detail = clips.diff(dim=-1).abs().mean(dim=(1, 2, 3, 4))
        return -detail if self.trainer.current_epoch >= self.turned_from else detail


def weights_of(module: RankingModule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def fit(
    corpus: Path,
    folder: Path,
    *callbacks: Callback,
    rounds: int = 1,
    turned_from: int | None = None,
    simulators: tuple[str, ...] = ("gaussian_blur", "gaussian_noise"),
    checkpoint: Path | None = None,
    **settings: Any,
) -> tuple[RankingModule, RoundDataModule]:
    """Fits on two simulators, every time with other first weights."""
    given: dict[str, Any] = {
        "counts": PairCounts(synthetic=8, teacher=4, evaluation=4),
        "teachers": [NIQE("fitted"), Artefacts()],
    }
    data = RoundDataModule(
        str(corpus),
        batch_size=4,
        simulators=list(simulators),
        splits=Splits(shares=(0.4, 0.4, 0.2), duplicates=False),
        **(given | settings),
    )
    model: dict[str, Any] = {
        "lmm": TINY,
        "sampling": Sampling(frames=2, window=32),
        "scoring": Scoring(draws=3),
    }
    module = RankingModule(**model) if turned_from is None else Sharpness(turned_from, **model)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=rounds,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=any(isinstance(one, ModelCheckpoint) for one in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    # A module made by hand has hyper-parameters that only pickle could save.
    module.hparams.clear()
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return module, data


def one_round(
    corpus: Path, folder: Path, calibration_simulators: list[str] | None = None
) -> tuple[RankingModule, RoundDataModule, pa.Table]:
    """Fits for one round; also returns what the student said of the select split."""
    module, data = fit(corpus, folder, SelfImprovement(calibration_simulators=calibration_simulators))
    table = LabelStore(folder / "labels").read(round=1)
    select = [video.video_id for video in data.split("select")]
    return module, data, table.filter(pc.is_in(table["video_id"], pa.array(select)))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def simulators_of(table: pa.Table) -> set[str]:
    identities = {simulator.identity: name for name, simulator in SIMULATORS.items()}
    return {identities[one] for one in table["simulator"].to_pylist() if one is not None}


class TestCalibration:
    def test_errors_are_scaled_on_simulators_that_are_not_trained_on(
        self, mixed_corpus: Path, tmp_path: Path
    ) -> None:
        module, data, table = one_round(mixed_corpus, tmp_path)
        assert simulators_of(table) - set(data.simulators) == set(SIMULATORS) - set(data.simulators) - set(
            SLOW
        )
        trained = pa.array([simulator.identity for simulator in data.simulators.values()])
        unseen = table.filter(pc.invert(pc.is_in(table["simulator"], trained)))
        # The buffer is float32.
        assert module.scale[2:].tolist() == pytest.approx(list(fit_errors(unseen)), rel=1e-5)

    def test_simulators_that_are_named_are_taken(self, mixed_corpus: Path, tmp_path: Path) -> None:
        _, _, table = one_round(mixed_corpus, tmp_path, ["jpeg", "h264"])
        assert simulators_of(table) == {"jpeg", "h264", "gaussian_blur", "gaussian_noise"}

    @pytest.mark.parametrize(
        ("names", "sentence"),
        [
            (["h264", "blurr"], "be one of resize.*got 'blurr'"),
            ([], r"name a simulator; got \[\]: leave it out"),
        ],
    )
    def test_names_that_nobody_knows_end_in_one_sentence(self, names: list[str], sentence: str) -> None:
        with pytest.raises(InputError, match=f"SelfImprovement.calibration_simulators must {sentence}"):
            SelfImprovement(calibration_simulators=names)


QUICK: dict[str, Any] = {"calibration_simulators": ["contrast"]}
SOFT: dict[str, Any] = {"calibration_simulators": ["motion_blur"]}
RIGHT: dict[str, Any] = {"simulators": ("gaussian_blur", "resize"), "turned_from": 9}
"""Each of these simulators takes detail away: the order of severities is right in every round."""

TURNED = RIGHT | {"turned_from": 1}
"""It is right first, and then turned."""


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "rounds.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class TestRounds:
    def test_listeners_are_told_what_a_round_has_found(self, mixed_corpus: Path, tmp_path: Path) -> None:
        watch = Watch()
        fit(mixed_corpus, tmp_path, SelfImprovement(**SOFT), watch, rounds=2, **RIGHT)
        assert [finished.row.round for finished in watch.finished] == [0, 1]
        for finished in watch.finished:
            assert finished.answers.shape == (12, 3)
            assert finished.answers[:, 1].isfinite().all()
            assert finished.judged.given.shape == finished.judged.predicted.shape == (4, 5)
            assert set(finished.scores) == {
                "student",
                "niqe",
                "artefacts",
                "laplacian",
                "ensemble",
            }
            assert pc.min(finished.student.table["stderr"]).as_py() > 0
        first, second = watch.finished
        np.testing.assert_array_equal(first.after.score, second.before.score)
        assert [row["verdict"] for row in rows(tmp_path)] == ["kept", "kept"]

    def test_base_begins_every_round_with_the_first_weights_and_a_new_schedule(
        self, mixed_corpus: Path, tmp_path: Path
    ) -> None:
        watch = Watch()
        improvement = SelfImprovement(**SOFT, restart="base")
        module, _ = fit(mixed_corpus, tmp_path, improvement, watch, rounds=2, **RIGHT)  # no round is rejected
        assert same(watch.began[0], watch.began[1])
        assert same(weights_of(module), watch.ended[-1])  # what is saved is what was learnt
        assert not same(watch.ended[-1], watch.began[-1])
        assert watch.rates[:3] == watch.rates[3:]

    def test_continue_goes_on_with_the_weights_and_one_schedule(
        self, mixed_corpus: Path, tmp_path: Path
    ) -> None:
        watch = Watch()
        fit(mixed_corpus, tmp_path, SelfImprovement(**QUICK), watch, rounds=2)
        assert same(watch.ended[0], watch.began[1])
        # One warm-up and one fall over the run.
        rising = np.diff(watch.rates) > 0
        assert not rising[int(np.argmax(watch.rates)) :].any()

    def test_the_schedule_lies_over_rounds_that_grow(self, mixed_corpus: Path, tmp_path: Path) -> None:
        module, _ = fit(
            mixed_corpus, tmp_path, SelfImprovement(**QUICK), rounds=3, later=LaterRounds(union=True)
        )
        assert module.schedule.steps == module.global_step == 3 * (1 + 2 + 3)

    def test_a_round_that_is_worse_is_rejected(self, mixed_corpus: Path, tmp_path: Path) -> None:
        watch = Watch()
        with pytest.warns(UserWarning, match="round 1 is rejected"):
            module, _ = fit(mixed_corpus, tmp_path, SelfImprovement(**SOFT), watch, rounds=2, **TURNED)
        assert [row["verdict"] for row in rows(tmp_path)] == ["kept", "rejected"]
        assert same(weights_of(module), watch.ended[0])
        before, after = watch.finished[1].before, watch.finished[1].after
        np.testing.assert_array_equal(before.score, after.score)

    def test_after_a_rejected_round_the_optimiser_is_new_and_the_schedule_goes_on(
        self, mixed_corpus: Path, tmp_path: Path
    ) -> None:
        watch = Watch()
        module, _ = fit(mixed_corpus, tmp_path, SelfImprovement(**SOFT), watch, rounds=3, **TURNED)
        state = module.trainer.optimizers[0].state.values()
        assert {float(of["step"]) for of in state if "step" in of} == {3.0}
        # One warm-up and one fall over the run.
        rising = np.diff(watch.rates) > 0
        assert not rising[int(np.argmax(watch.rates)) :].any()

    def test_patience_ends_a_run_that_does_not_rise(self, mixed_corpus: Path, tmp_path: Path) -> None:
        fit(mixed_corpus, tmp_path, SelfImprovement(**SOFT, patience=1), rounds=4, **TURNED)
        assert len(rows(tmp_path)) == 2

    def test_who_labels(self, mixed_corpus: Path, tmp_path: Path) -> None:
        said = {}
        for relabel in ("replace", "blend", "never"):
            watch = Watch()
            fit(mixed_corpus, tmp_path / relabel, SelfImprovement(**SOFT, relabel=relabel), watch, **RIGHT)
            said[relabel] = watch.finished[0]
        teachers, student = said["never"].after.score, said["replace"].after.score
        np.testing.assert_array_equal(teachers, said["never"].before.score)
        correlation = np.corrcoef([teachers, said["blend"].after.score, student])
        assert correlation[0, 2] < correlation[0, 1]
        assert correlation[0, 2] < correlation[1, 2]

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"patience": 0}, "SelfImprovement.patience must be 1 or more; got 0"),
            ({"epochs_per_round": 2}, "max_epochs must be a positive multiple of .*, 2; got 3"),
        ],
    )
    def test_what_cannot_be_is_one_sentence(
        self, mixed_corpus: Path, tmp_path: Path, settings: dict[str, int], sentence: str
    ) -> None:
        with pytest.raises(InputError, match=sentence):
            fit(mixed_corpus, tmp_path, SelfImprovement(**settings), rounds=3)


GROWTH: dict[str, Any] = {
    "counts": PairCounts(synthetic=10, teacher=6, evaluation=4),
    "later": LaterRounds({"synthetic": 0.3, "teacher": 0.5}, union=True),
}


class TestResuming:
    @pytest.mark.parametrize(
        ("improvement", "settings"),
        [
            ({"restart": "base"}, {"rounds": 3}),
            ({}, {"rounds": 3, **GROWTH}),
            ({"epochs_per_round": 2}, {"rounds": 4}),
        ],
        ids=["base", "growth", "two epochs a round"],
    )
    def test_every_checkpoint_leads_to_the_same_end(
        self, mixed_corpus: Path, tmp_path: Path, improvement: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        def run(
            checkpoint: Path | None = None,
        ) -> tuple[dict[str, Tensor], list[Any], Tensor, int]:
            watch, place = Watch(), tmp_path / "checkpoints"
            saving = [
                ModelCheckpoint(place, "{step}", every_n_train_steps=4, save_top_k=-1),
                ModelCheckpoint(place, "end-{epoch}", save_top_k=-1, save_on_train_epoch_end=True),
            ]
            module, _ = fit(
                mixed_corpus,
                tmp_path,
                SelfImprovement(**QUICK, **improvement),
                watch,
                *saving,
                checkpoint=checkpoint,
                **settings,
            )
            told = [
                {name: value for name, value in row.items() if not name.endswith("seconds")}
                for row in rows(tmp_path)
            ]
            return weights_of(module), told, watch.finished[-1].answers, module.schedule.steps or 0

        weights, told, answers, steps = run()
        saved = [path for path in (tmp_path / "checkpoints").glob("*=*.ckpt") if "-v" not in path.name]
        # The last one has nothing left to do.
        for path in sorted(saved, key=lambda path: path.stat().st_mtime)[:-1]:
            again = run(path)
            assert same(weights, again[0]), path
            assert (told, steps) == (again[1], again[3]), path
            assert torch.equal(answers.nan_to_num(-9), again[2].nan_to_num(-9)), path

    def test_a_rejected_round_goes_back_to_the_student_of_its_own_past(
        self, mixed_corpus: Path, tmp_path: Path
    ) -> None:
        place = tmp_path / "checkpoints"
        ends = ModelCheckpoint(place, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
        watch = Watch()
        fit(mixed_corpus, tmp_path, SelfImprovement(**SOFT), watch, ends, rounds=2, **RIGHT)
        # That the student of the second round was kept belongs to another run now.
        shutil.rmtree(tmp_path / "labels" / "round=2")
        first = place / "epoch=0.ckpt"
        module, _ = fit(mixed_corpus, tmp_path, SelfImprovement(**SOFT), rounds=2, checkpoint=first, **TURNED)
        assert rows(tmp_path)[1]["verdict"] == "rejected"
        assert same(weights_of(module), watch.ended[0])
