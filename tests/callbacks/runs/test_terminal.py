"""What a fit says: names that fit beside the bar, and lines at the end that can be typed."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.demos.boring_classes import BoringModel

from callbacks.rounds.rows import RoundRow, TeacherRow
from callbacks.runs.terminal import Progress, Terminal, with_terminal, worth

TEACHERS = [
    TeacherRow("niqe", "0", 0.7, 0.5, 0.85, "order", 0.5, "sound"),
    TeacherRow("artefacts", "1", 0.3, -0.1, 0.5, "order", 0.5, "noise"),
]


class Logs(BoringModel):
    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(batch, batch_idx)["loss"]
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/rank_accuracy", 0.5, prog_bar=True)
        return loss


def fitted(here: Path) -> Trainer:
    checkpoint = ModelCheckpoint(here / "checkpoints", filename="last", save_on_train_epoch_end=True)
    settings: dict[str, Any] = {"callbacks": checkpoint, "enable_progress_bar": None}
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        limit_val_batches=0,
        default_root_dir=here,
        enable_model_summary=False,
        callbacks=with_terminal(settings),
    )
    trainer.fit(Logs())
    return trainer


def test_the_bar_has_short_names_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    trainer = fitted(tmp_path)
    (bar,) = [one for one in trainer.callbacks if isinstance(one, Progress)]  # type: ignore[attr-defined]
    assert bar.get_metrics(trainer, trainer.lightning_module).keys() == {"loss", "right"}
    told = caplog.messages
    assert "a model of 66 parameters, 66 of them trained" in told
    command = next(line for line in told if line.startswith("next: vqa-lightning predict --ckpt_path "))
    assert Path(command.split()[4]).is_file()


@pytest.mark.parametrize("enabled", [None, True, False])
def test_a_bar_of_the_user_s_own_or_none_stays(enabled: bool | None) -> None:
    own = TQDMProgressBar()
    found = with_terminal({"callbacks": [own], "enable_progress_bar": enabled})
    assert found[0] is own
    assert [type(one) for one in found[1:]] == [Terminal]
    kinds = [type(one) for one in with_terminal({"callbacks": None, "enable_progress_bar": enabled})]
    assert kinds == ([Terminal] if enabled is False else [Progress, Terminal])


class TestWorth:
    def row(self, **more: Any) -> RoundRow:
        return RoundRow(
            round=2,
            pairs={"teacher": 1},
            rank_accuracy=0.9,
            level_accuracy=0.5,
            flipped=0.1,
            seconds=1.0,
            srcc={},
            probe=(0.55, 0.4, 0.7),
            verdict="kept",
            label_entropy=2.0,
            score_spread=1.0,
            annotation_seconds=0.5,
            **more,
        )

    def test_with_a_hidden_truth(self) -> None:
        truth = {
            "student": (0.68, 0.6, 0.76),
            "niqe": (0.43, 0.3, 0.5),
            "artefacts": (0.56, 0.4, 0.7),
            "over_best": (0.12, 0.0, 0.23),
        }
        assert worth(self.row(truth=truth), TEACHERS).splitlines() == [
            "the last student agrees with the hidden truth by 0.68 [0.60, 0.76]",
            "the best teacher, artefacts, by 0.56, the student above it by 0.12 [0.00, 0.23]",
        ]

    def test_without_one_by_known_orders(self) -> None:
        assert worth(self.row(), TEACHERS).splitlines() == [
            "the last student agrees with known orders (Kendall's tau) by 0.55 [0.40, 0.70]",
            "the best teacher, niqe, by 0.70 [0.50, 0.85]",
        ]
        assert "teacher" not in worth(self.row(), [])
