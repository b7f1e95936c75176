"""A checkpoint does not say what code runs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules.errors import InputError
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.checkpoints.remembered import remembered_settings
from vqa_lightning.cli import main
from vqa_lightning.losses import LevelCrossEntropy


class Own(LevelCrossEntropy):
    """A loss of the program that loads the checkpoint."""


def edited(file: Path, folder: Path, **loss: object) -> Path:
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["hyper_parameters"]["loss"] |= loss
    torch.save(checkpoint, folder / "edited.ckpt")
    return folder / "edited.ckpt"


NAMED = ["os.getpid", {"class_path": "subprocess.Popen", "init_args": {"args": "true"}}, "torch.hub.load", 3]


@pytest.mark.parametrize("named", NAMED)
def test_code_that_a_file_names_is_refused_and_not_called(
    named: object, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: pytest.fail("was called"))
    file = edited(tiny_checkpoint, tmp_path, pairwise=named)
    with pytest.raises(InputError, match=r"as model\.loss\.pairwise, and a checkpoint may not say what code"):
        load_checkpoint(file)


def test_predict_refuses_it_in_one_sentence(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = edited(tiny_checkpoint, tmp_path, pointwise="os.getpid")
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--ckpt_path", str(file), "--data.videos", str(tmp_path)])
    assert ended.value.code == 2
    assert "'os.getpid' as model.loss.pointwise" in capsys.readouterr().err


def test_what_the_program_has_imported_or_the_user_types_is_taken(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = torch.load(tiny_checkpoint, weights_only=True)
    checkpoint["hyper_parameters"]["loss"] |= {"pairwise": {"class_path": "mine.Own"}}
    with pytest.raises(InputError, match=r"'mine\.Own'"):
        remembered_settings(checkpoint, tiny_checkpoint)
    typed: Callable[[str], bool] = "loss.pairwise".__eq__
    assert "pairwise" not in remembered_settings(checkpoint, tiny_checkpoint, typed)["loss"]
    monkeypatch.setitem(__import__("sys").modules, "mine", type("mine", (), {"Own": Own}))
    known = remembered_settings(checkpoint, tiny_checkpoint)
    assert known["loss"]["pairwise"] == {"class_path": "mine.Own"}
    assert "_instantiator" not in known
