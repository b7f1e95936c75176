"""A trained checkpoint of ours as a teacher: of another run, or of a corpus that is only to be labelled.

It scores as the Student does, with weights that no longer change, on the published scale.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import instantiate_module

from datamodules.errors import InputError
from datamodules.labels import Annotation
from datamodules.teachers.batch import Batch
from vqa_lightning.annotators.student import Student
from vqa_lightning.checkpoints.remembered import remembered_settings
from vqa_lightning.checkpoints.resumable import read_checkpoint
from vqa_lightning.training import RankingModule


class Checkpoint(Student):
    """Scores videos by a checkpoint that fit wrote, by the judgement it was trained to score by.

    Scores and their standard errors are those of `predict` with the same checkpoint: 50 is the middle of the
    corpus it was trained on and 10 its standard deviation. The fingerprint is a hash of the weights.

    Args:
        path: a .ckpt of a run.
        device: where clips are scored.
        name: under which the scores are stored; by default `checkpoint-` and the first digits of the hash.

    Raises:
        InputError: the file is missing, cannot be read, or holds another model.
    """

    def __init__(self, path: str, device: str | torch.device = "cpu", name: str | None = None) -> None:
        module = load_checkpoint(Path(path))
        super().__init__(module, module.score_sampling)
        self.name = name or f"checkpoint-{self._weights[:6]}"
        self.device = torch.device(device)

    def fit(self, workers: int) -> None:
        """Move the model to the device on which it scores."""
        self.module.to(self.device)

    def annotate_batch(self, batch: Batch) -> Iterator[Annotation]:
        """Yield each request's published score with its calibrated standard error."""
        for annotation in super().annotate_batch(batch):
            score, stderr = self.module.published(
                torch.tensor(annotation.score), torch.tensor(annotation.stderr)
            )
            yield annotation._replace(score=score.item(), stderr=stderr.item())


def load_checkpoint(path: Path, settings: Mapping[str, Any] | None = None) -> RankingModule:
    """Load a model for scoring from its checkpoint, with `weights_only`.

    Parameters that were frozen in training are loaded from where training loaded them: the published
    checkpoint, or the run's base.ckpt beside this one.

    Args:
        path: a .ckpt that fit wrote.
        settings: the model's hyper-parameters, in the place of those that the checkpoint remembers.

    Raises:
        InputError: one of the files is missing, cannot be read, or holds another model.
    """
    if not path.is_file():
        raise InputError(f"The checkpoint {path} is not a file; give a .ckpt that fit has written.")
    try:
        checkpoint = read_checkpoint(path)
        settings = dict(remembered_settings(checkpoint, path) if settings is None else settings)
        settings.pop("_instantiator", None)  # Lightning's own note of who made the module
        module = instantiate_module(RankingModule, settings)
        module.configure_model()
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
    except InputError:
        raise
    except Exception as error:  # whatever the damage, or the other model, happens to cause
        raise InputError(
            f"The checkpoint {path} cannot be loaded ({str(error).splitlines()[0].rstrip('.')}); "
            "give a .ckpt that vqa-lightning's fit wrote."
        ) from error
    return module.eval()
