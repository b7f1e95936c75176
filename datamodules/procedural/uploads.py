"""The files of one content: its uploads, each through a hidden chain and scored, and the clean render.

Scores are against the clean render, by VMAF and MS-SSIM on luma, fixed before any model was trained.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from datamodules.fidelity import structural_similarity, vmaf
from datamodules.files import written_whole
from datamodules.procedural.chains import Camera, Chain
from datamodules.procedural.contents import NOISE, SHORTEST, Content
from datamodules.procedural.encoding import Encoding, decoded_luma, encode, luma_of, video_frame
from datamodules.procedural.shots import develop

RUN = 2
"""Frames of each of the two runs that are scored, a quarter and three quarters into a video."""

_REFERENCE = Encoding(crf=9, preset="superfast", keyframes=SHORTEST, matrix="bt709")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: bits of sums depend on the number of threads, and workers share the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _write(path: Path, file: bytes) -> None:
    """Write a file that appears under its name when it is whole."""
    with written_whole(path) as hidden:
        hidden.write_bytes(file)


def write_uploads(
    uploads: Sequence[tuple[Path, Chain]],
    content: Content,
    noise: Sequence[int],
    reference: Path | None = None,
) -> list[dict[str, float]]:
    """Film a content once, write it through each chain into an H.264 file, and score the files.

    Args:
        uploads: the .mp4 file to write and what degrades it, each.
        content: what is filmed.
        noise: seed of the sensors' noise.
        reference: the .mp4 file that takes the first 16 frames of the clean render, visually lossless.

    Returns:
        For each upload `vmaf` (0 to 100), `ms_ssim` and `ssim` (at most 1) on luma against the clean render,
        each the mean over two runs of two frames; higher is better. The VMAF of these frames is 1.5 below
        that of all frames in the mean of 20 videos, differs by 1.4 more (deviation), and orders them alike
        (SRCC .995).
    """
    size = content.height, content.width
    scored = [quarter * content.count // 4 + step - 1 for quarter in (1, 3) for step in range(RUN)]
    scores = []
    with _one_thread():
        light = list(content.frames())
        if reference is not None:
            clean = (video_frame(develop(frame), _REFERENCE.matrix) for frame in light[:SHORTEST])
            _write(reference, encode(clean, size, content.fps, _REFERENCE))
        for place, (path, chain) in enumerate(uploads):
            camera = Camera(np.random.default_rng([*noise, NOISE, place]), *size, chain)
            frames = (video_frame(camera(frame), chain.matrix) for frame in light)
            encoding = Encoding(chain.crf, chain.preset, chain.keyframes, chain.matrix)
            file = encode(frames, size, content.fps, encoding)
            scores.append(_scored(file, [light[number] for number in scored], scored, chain.matrix))
            _write(path, file)
    return scores


def _scored(
    file: bytes, light: Sequence[torch.Tensor], numbers: Sequence[int], matrix: str
) -> dict[str, float]:
    """Score the frames of a file that have these numbers beside what was filmed; the clean luma is exact."""
    clean = torch.stack([luma_of(develop(frame), matrix) for frame in light])
    upload = decoded_luma(file, numbers)
    ms_ssim, ssim = structural_similarity(upload, clean)
    shape = (-1, RUN, *clean.shape[1:])
    return {
        "vmaf": float(vmaf(upload.view(shape), clean.view(shape)).mean()),
        "ms_ssim": float(ms_ssim.mean()),
        "ssim": float(ssim.mean()),
    }
