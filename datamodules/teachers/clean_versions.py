"""What is asked of versions of clean sources, who is asked, and what comes of it.

A full-reference metric scores every version, and so do the teachers, on the very clips that the metric sees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from datamodules.labels import Consensus, Request, Versions
from datamodules.labels.references import References, reference_requests, reference_versions
from datamodules.teachers.full_reference import FullReference
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling, Video

PROBED = 6
"""Versions of each source of the select split."""


@dataclass(frozen=True)
class CleanVersions:
    """Versions of clean sources, and who scores them.

    Attributes:
        settings: which versions, and how their scores become one.
        sources: clean videos of the splits train and select.
        originals: source -> the video that it was made of, for sources that are not clean.
        sampling: how a model's clips are cut: a metric sees the very clips of a model with a window.
        whom: the teachers of the run.
    """

    settings: References
    sources: Sequence[Video]
    originals: Mapping[str, str]
    sampling: Sampling
    whom: Sequence[Teacher]

    @property
    def metric(self) -> FullReference:
        """What compares versions with their sources."""
        return FullReference.of_clips(self.settings.metric, self.sampling)

    @property
    def teachers(self) -> list[Teacher]:
        """The teachers as they look at versions: at two frames of each segment of the metric's clips."""
        if not self.settings.teachers:
            return []
        cut = self.metric.sampling
        return [teacher.cut(cut, max(1, cut.frames // 2)) for teacher in self.whom]

    @property
    def probe(self) -> list[Request]:
        """The versions of the select split's sources, by which a student's scale is judged."""
        return reference_requests(
            self._of("select"), min(PROBED, self.settings.versions), self.settings.without
        )

    @property
    def requests(self) -> list[Request]:
        """All versions that are scored."""
        return [
            *reference_requests(self._of("train"), self.settings.versions, self.settings.without),
            *self.probe,
        ]

    def read(self, table: pa.Table, consensus: Consensus | None) -> Versions:
        """Return what was said of the versions of training sources.

        Args:
            table: round 0 of the label store.
            consensus: what the teachers say of videos, and so of sources that were made of them; None: nobody
                says how good these are.
        """
        quality = None
        if self.originals and consensus is not None:
            source = {video: name for name, video in self.originals.items()}
            ids = tuple(source.get(name, name) for name in consensus.video_ids)
            quality = replace(consensus, video_ids=ids)
        return reference_versions(
            table,
            self._of("train"),
            self.metric.fingerprint,
            self.settings,
            teachers=[teacher.fingerprint for teacher in self.teachers],
            quality=quality,
        )

    def _of(self, split: str) -> list[Video]:
        return [source for source in self.sources if source.split == split]
