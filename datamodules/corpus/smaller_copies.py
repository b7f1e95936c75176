"""Videos made smaller, so that each is a cleaner source of versions than the video itself.

Scaling down by two or more averages away most of what a camera and an encoder left: four pixels become one.
"""

import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.errors import UnreadableVideo
from datamodules.video import Sampling, Video, probe, read_clip

LEAST_LINES = 480
"""A video with fewer lines is not made smaller: its copy would show too little."""

MOST_LINES = 540
"""Of a copy: larger videos are made smaller by more than two."""

FRAMES = 16
"""Consecutive frames of a copy, from the middle of the video."""

QUALITY = 4
"""CRF of a copy, at which its encoding cannot be seen."""


def smaller_copies(videos: Sequence[Video], folder: Path) -> dict[str, Video]:
    """Write what is missing of the copies of videos.

    Args:
        videos: readable rows of a corpus.
        folder: of the copies; made if need be. A copy appears under its name when it is whole.

    Returns:
        By the id of each video its copy, or the video itself where it has fewer than `LEAST_LINES`; with the
        content and the split of the video. A video that cannot be read any more is left out.
    """
    found = {}
    for video in videos:
        if min(video.height, video.width) < LEAST_LINES:
            found[video.video_id] = video
            continue
        path = folder / f"{video.video_id}.mp4"
        try:
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                frames = read_clip(video, Sampling(frames=FRAMES, window=None)).frames
                _write(path, smaller(frames), video.fps)
            copy = probe(path)
        except UnreadableVideo:
            continue
        found[video.video_id] = replace(copy, content=video.content, split=video.split)
    return found


def smaller(frames: Tensor) -> Tensor:
    """Scale frames uint8 (T, 3, H, W) down by two, or by more to `MOST_LINES`; sides become even.

    Example:
        >>> smaller(torch.zeros(2, 3, 1080, 1920, dtype=torch.uint8)).shape
        torch.Size([2, 3, 540, 960])
        >>> smaller(torch.zeros(2, 3, 2160, 3840, dtype=torch.uint8)).shape
        torch.Size([2, 3, 540, 960])
    """
    factor = max(2.0, min(frames.shape[-2:]) / MOST_LINES)
    size = [2 * round(side / factor / 2) for side in frames.shape[-2:]]
    scaled = [F.interpolate(frame[None].float(), size, mode="bicubic", antialias=True) for frame in frames]
    return torch.cat(scaled).round_().clamp_(0, 255).byte()


def _write(path: Path, frames: Tensor, fps: float) -> None:
    hidden = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.mp4")
    try:
        with av.open(os.fspath(hidden), "w") as container:
            stream = container.add_stream("libx264", rate=round(max(fps, 1)), options={"crf": str(QUALITY)})
            context = stream.codec_context
            context.height, context.width = frames.shape[-2:]
            context.pix_fmt, context.thread_count = "yuv420p", 1
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame.permute(1, 2, 0).contiguous().numpy())
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
