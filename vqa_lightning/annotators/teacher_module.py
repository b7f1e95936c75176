"""A teacher as the model of `predict`: any corpus annotated on any Lightning strategy, with no checkpoint.

The teacher keeps its own way of reading and batching; Lightning gives each rank its share and its device.
"""

from lightning.pytorch import LightningModule
from lightning_utilities.core.rank_zero import rank_zero_info

from datamodules.corpus import videos
from datamodules.errors import InputError
from datamodules.labels import Annotation, Annotator, ClipItem
from datamodules.round_data import RoundDataModule
from datamodules.teachers import Teacher


class TeacherModule(LightningModule):
    """Scores videos by a teacher, in the teacher's own unit, higher better.

    A teacher that has to see good videos first is prepared with the corpus itself (NIQE with a fitted model):
    its scores then compare the videos of that corpus.

    Args:
        teacher: a `datamodules.Teacher`; a file of scores needs no predicting.

    Raises:
        InputError: the teacher scores no clips.
    """

    def __init__(self, teacher: Annotator) -> None:
        super().__init__()
        if not isinstance(teacher, Teacher):
            raise InputError(
                f"model.teacher must be a teacher that scores clips; got {type(teacher).__name__}."
            )
        self.teacher = teacher

    @property
    def data(self) -> RoundDataModule:
        """Where the clips come from."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RoundDataModule)
        return data

    def setup(self, stage: str) -> None:
        """Prepare the teacher, and have the datamodule read clips as the teacher wants."""
        self.teacher.device = self.trainer.strategy.root_device
        self.teacher.prepare(videos(self.data.corpus))
        if self.teacher.fits_corpus:
            rank_zero_info(f"{self.teacher.name}: fitted to these videos")
        self.data.teacher = self.teacher

    def predict_step(self, batch: list[ClipItem]) -> tuple[list[Annotation], dict[str, str]]:
        """Return the scores of the batch's videos, and by video id why a video has no score."""
        requests = self.data.requests
        readable = [item for item in batch if item.error is None]
        if readable:
            self.teacher.fit(self.data.workers)
        found = list(self.teacher.annotate_clips(requests, readable))
        reasons = {
            requests[item.position].video.video_id: item.error
            or f"{self.teacher.name} makes no statement on {requests[item.position].video.path}."
            for item in batch
        }
        for annotation in found:
            del reasons[annotation.video_id]
        return found, reasons
