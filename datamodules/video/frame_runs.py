"""Runs of whole frames at given times of one video: any length of video, a few frames of memory."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import UnreadableVideo
from datamodules.video.colour import WindowConverter
from datamodules.video.probing import Video


def read_runs(video: Video, times: Sequence[float], count: int) -> Iterator[Tensor]:
    """Decode `count` consecutive whole frames from each of several times on.

    A run has fewer frames where the video has fewer or changes its frame size within it. The iterator ends
    early where the file does, by damage or by a wrong duration.

    Args:
        video: a readable row of a corpus.
        times: seconds from the video's start, rising.
        count: frames of a run.

    Yields:
        uint8 (T, 3, H, W), RGB as an SDR display would show it, T from 1 to `count`.

    Raises:
        UnreadableVideo: the file gives no frame at all.
    """
    last = -1.0
    with closing(video.open()) as reader:
        converter = WindowConverter(video.path, None, (0.5, 0.5))
        for time in times:
            run = reader.run(time, count)
            if not run and last < 0:
                raise UnreadableVideo(f"{video.path} gives no frame that can be decoded{reader.reason}.")
            if not run or run[0][0] <= last < time - 1 / video.fps:
                return  # the frames came to an end before: the same last frames would follow
            last = run[0][0]
            images = [converter(frame) for _, frame in run]
            same = [image for image in images if image.shape == images[0].shape]
            yield torch.from_numpy(np.stack(same)).permute(0, 3, 1, 2)
