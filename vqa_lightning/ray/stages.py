"""The two stages of scoring on Ray Data: tasks that read clips, and actors that hold the model.

Both do what predict does, by predict's own code: the same draws of a video at the same places, and every
video scored by itself.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from callbacks.scores.table import SCHEMA, batch_rows
from datamodules.batches.video_batch import collate_videos
from datamodules.corpus.places import local_copy
from datamodules.errors import UnreadableVideo
from datamodules.labels import ClipDataset, ClipItem, Request
from datamodules.labels.clips import NOTHING
from datamodules.names import is_url, name_of
from datamodules.video import Sampling, Video, probe
from datamodules.video_data import shared_intervals
from vqa_lightning.ray.sent_model import SentModel

if TYPE_CHECKING:
    from ray import ObjectRef

Cells = Mapping[str, Any]
"""Name of a column -> its value in a row, or its values in a batch."""

FIELDS = pa.schema([*SCHEMA, *((name, pa.float64()) for name in ("percentile", "start", "end"))])
"""Cells of a scored request; start and end, in seconds, are null for a whole video."""

REQUESTS = pa.field("requests", pa.int32())
"""How many requests the video of a row has: all its rows are there as soon as there are so many."""

_NO_CLIPS = np.zeros((0, 0, 0, 0, 0), np.uint8)


@dataclass(frozen=True)
class ClipReader:
    """The stage of CPU tasks: from paths or URLs to uint8 clips, whole videos and their intervals.

    Attributes:
        sampling: how the model wants its clips.
        draws: clips of a request.
        score_every: seconds of an interval; None: whole videos alone.
        together: intervals of a video that are read in one pass.
        root: local folder from which relative paths lead, wherever a task runs.
    """

    sampling: Sampling
    draws: int
    score_every: float | None
    together: int
    root: str

    def __call__(self, row: Cells) -> Iterator[Cells]:
        """Yield one row a request, with `clips` (n, T, 3, H, W); of an unreadable video without clips."""
        torch.set_num_threads(1)  # tasks are the parallelism
        path = str(row["path"])
        try:
            with within_reach(path, self.root) as file:
                yield from self._read(path, probe(file))
        except UnreadableVideo as error:
            yield _row(path, error=str(error))

    def _read(self, path: str, video: Video) -> Iterator[Cells]:
        requests = [Request(video)]
        if self.score_every is not None:
            spans = shared_intervals([video], self.score_every)
            requests += [Request(video, span=span) for span in spans]
        dataset = ClipDataset(requests, self.sampling, self.draws)
        places = iter(range(len(requests)))
        while some := list(islice(places, self.together)):
            for item in dataset.__getitems__(some):
                start, end = requests[item.position].span or (math.nan, math.nan)
                told: Cells = {"start": start, "end": end, "requests": len(requests)}
                if item.error is None:
                    note = {"note": video.error, "fps": video.fps}
                    yield _row(path, video_id=video.video_id, clips=item.frames.numpy(), **told, **note)
                else:
                    yield _row(path, error=item.error.replace(video.path, path), **told)


@contextmanager
def within_reach(path: str, root: str) -> Iterator[Path]:
    """Give the local file of a path or a URL, wherever a task runs.

    Args:
        path: as it was listed.
        root: folder from which relative paths lead.

    Raises:
        UnreadableVideo: it cannot be fetched, or what was done with it raised that; it names the path.
    """
    place = named = path if is_url(path) else os.path.join(name_of(root), path)
    try:
        with local_copy(place) as file:
            named = name_of(file)
            yield file
    except UnreadableVideo as error:
        raise UnreadableVideo(str(error).replace(named, path)) from error


def _row(path: str, **told: Any) -> Cells:
    nothing = {"video_id": "", "start": math.nan, "end": math.nan, "error": "", "clips": _NO_CLIPS}
    nothing |= {"note": "", "fps": 0.0}  # what a video's remark is made of
    return {"path": path, **nothing, "requests": 1, **told}


class ClipScorer:
    """The stage of actors: from clips to scores, one video after the other, so that none depends on another.

    Args:
        model: that scores, in Ray's object store: machines have it once, and not once an actor.
        device: where it scores.
        counted: whether rows have the column REQUESTS, too.
    """

    def __init__(self, model: "ObjectRef[SentModel]", device: str, counted: bool) -> None:
        import ray

        self.counted = counted

        sent = ray.get(model)
        self.name = sent.name
        self.module = sent.load().to(device)

    @torch.inference_mode()
    def __call__(self, batch: Cells) -> pa.Table:
        """Return a row a request, with the columns of FIELDS."""
        told = zip(*(batch[name] for name in ("video_id", "path", "note", "fps")), strict=True)
        videos = [
            Video(str(video_id), str(path), error=str(note), fps=float(fps))
            for video_id, path, note, fps in told
        ]
        read = zip(count(), batch["clips"], batch["error"], strict=False)
        found = collate_videos(
            [
                ClipItem(place, torch.tensor(clips), NOTHING, NOTHING, str(error) or None)
                for place, clips, error in read
            ]
        )
        found = found._replace(clips=[clips.to(self.module.device) for clips in found.clips])
        scores, errors = self.module.predict_step(found)
        by_place = batch_rows(found, scores, errors, videos, self.name)
        rows = [by_place[place] for place in range(len(videos))]
        percentiles = self.module.percentiles(np.array([row["score"] for row in rows], dtype=float))
        more = {"percentile": percentiles, "start": batch["start"], "end": batch["end"]}
        columns = {
            name: pa.array([row[name] for row in rows], SCHEMA.field(name).type) for name in SCHEMA.names
        }
        columns |= {name: pa.array(values, pa.float64(), from_pandas=True) for name, values in more.items()}
        table = pa.table(columns, schema=FIELDS)
        if not self.counted:
            return table
        return table.append_column(REQUESTS, pa.array(batch["requests"], REQUESTS.type))
