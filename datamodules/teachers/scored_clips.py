"""What is made of clips where they are read: without a GPU, light teachers use all of a DataLoader's workers.

Two workers with one thread each do almost twice the work of one process with two threads, for torch's threads
gain little on frames of this size. What is made is also smaller to send than the clips.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from datamodules.errors import InputError
from datamodules.labels import Annotation, ClipItem, Request
from datamodules.labels.label_store import Key
from datamodules.teachers.batch import Batch
from datamodules.teachers.teacher import Teacher


class Onlooker(Protocol):
    """Whoever is shown the clips that teachers score."""

    def look(self, request: Request, item: ClipItem) -> Tensor | None:
        """Return what is to be kept of a clip, if anything; it may run in another process."""

    def keep(self, request: Request, seen: Tensor) -> None:
        """Keep what `look` returned, in this process."""


@dataclass(frozen=True)
class Scoring:
    """What is done with a clip where it is read.

    Attributes:
        teachers: who scores it.
        wanted: name of a teacher -> keys of the requests that it is asked for.
        look: an onlooker's.
        clips: whether the clips themselves are wanted after that.
    """

    teachers: Sequence[Teacher]
    wanted: Mapping[str, Set[Key]]
    look: Callable[[Request, ClipItem], Tensor | None] | None
    clips: bool

    def __call__(self, request: Request, item: ClipItem) -> ClipItem:
        """Return the item with what was said of it and seen in it."""
        seen = None if self.look is None else self.look(request, item)
        try:
            said = self._said(request, item)
        except InputError as error:  # a DataLoader would raise it with a traceback for its message
            return item.without_clips(said=error)
        return (item._replace if self.clips else item.without_clips)(said=said, seen=seen)

    def _said(self, request: Request, item: ClipItem) -> list[tuple[str, Annotation | None]]:
        asked = [teacher for teacher in self.teachers if request.key in self.wanted[teacher.name]]
        if not asked:
            return []
        batch = Batch([request], [item], torch.device("cpu"))
        said: list[tuple[str, Annotation | None]] = []
        for teacher in asked:
            found = list(teacher.annotate_batch(batch))
            failed = request.video.video_id in teacher.failed
            said += [(teacher.name, one) for one in found]
            if failed and not found:
                said.append((teacher.name, None))
        return said
