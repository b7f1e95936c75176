import os
import resource
from pathlib import Path

import pytest
import torch

from datamodules.errors import InputError
from vqa_lightning.checkpoints.whole import WholeCheckpointIO


def test_a_checkpoint_without_room_leaves_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"weight": torch.zeros(4)}, file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(InputError, match=r"last.ckpt cannot be written \(File too large\): make room"):
            WholeCheckpointIO().save_checkpoint({"weight": torch.zeros(10_000)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.load(file, weights_only=True)["weight"].shape == (4,)
    assert os.listdir(tmp_path) == ["last.ckpt"]
