"""A model on its way to the actors: the checkpoint's own files, whose folder other machines need not see."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datamodules.video import Sampling
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.annotators.scorer import model_name
from vqa_lightning.checkpoints.resumable import BASE
from vqa_lightning.checkpoints.resuming import check_checkpoint
from vqa_lightning.checkpoints.scorer_file import SUFFIX
from vqa_lightning.training import RankingModule


@dataclass(frozen=True)
class SentModel:
    """A checkpoint as its files.

    Attributes:
        name: name and hash of the model, as in the column `model`.
        sampling: how the model wants its clips.
        draws: clips of a request.
        settings: the model's hyper-parameters; None: those that the checkpoint remembers.
        files: name -> content, the checkpoint first.
    """

    name: str
    sampling: Sampling
    draws: int
    settings: Mapping[str, Any] | None
    files: Mapping[str, bytes]

    @classmethod
    def pack(
        cls, checkpoint: Path, settings: Mapping[str, Any] | None = None
    ) -> tuple["SentModel", RankingModule]:
        """Return a checkpoint ready to be sent, and the model that it holds.

        Args:
            checkpoint: a .ckpt that fit wrote, or a scorer.
            settings: of the model, in the place of those that the checkpoint remembers.

        Raises:
            InputError: the checkpoint cannot be read.
        """
        module = load_checkpoint(checkpoint, settings)
        files = {checkpoint.name: checkpoint.read_bytes()}
        if checkpoint.suffix == SUFFIX:
            beside = checkpoint.with_suffix(".json")
            files[beside.name] = beside.read_bytes()
        if base := check_checkpoint(checkpoint).get("base"):
            places = [folder / BASE for folder in (checkpoint.parent, Path(base["folder"]))]
            files[BASE] = next(place for place in places if place.is_file()).read_bytes()
        name = model_name(module)
        return cls(name, module.score_sampling, module.scoring.draws, settings, files), module

    def load(self) -> RankingModule:
        """Return the model."""
        with TemporaryDirectory() as folder:
            for name, content in self.files.items():
                Path(folder, name).write_bytes(content)
            return load_checkpoint(Path(folder, next(iter(self.files))), self.settings)
