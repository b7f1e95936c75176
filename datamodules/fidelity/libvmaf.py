"""VMAF's features from libvmaf, in a process of FFmpeg that sees the frames of many clips in one stream.

FFmpeg's binary is found where the package imageio-ffmpeg put it (the extra `vmaf`), or on the path. Clip and
source travel as the halves of one picture, so that one pipe carries both.
"""

import json
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from datamodules.errors import InputError


@cache
def find_ffmpeg() -> str | None:
    """Return the path of an FFmpeg that has libvmaf; None where there is none."""
    found = []
    if find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        found.append(imageio_ffmpeg.get_ffmpeg_exe())
    on_path = shutil.which("ffmpeg")
    if on_path:
        found.append(on_path)
    for path in found:
        filters = subprocess.run(
            [path, "-hide_banner", "-filters"], capture_output=True, text=True, check=False
        )
        if " libvmaf " in filters.stdout:
            return str(path)
    return None


def libvmaf_features(clip: Tensor, source: Tensor, neg: bool) -> Tensor:
    """Measure ADM and VIF of frames by libvmaf.

    Neither feature looks at other frames, so that the frames of many clips can follow each other. Motion does
    look at them, and is therefore not taken from here.

    Args:
        clip: uint8 (N, H, W), luma.
        source: the same shape.
        neg: whether enhanced contrast is given no credit.

    Returns:
        (N, 5) on the CPU: ADM, and VIF at four scales, the finest first.

    Raises:
        InputError: there is no FFmpeg with libvmaf, or FFmpeg ended with an error.
    """
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        raise InputError(
            "VMAF by libvmaf must have an FFmpeg that was built with libvmaf; got none: pip install "
            "'vqa-lightning[vmaf]'."
        )
    count, height, width = clip.shape
    luma = torch.cat([source, clip], 1).flatten(1)
    # FFmpeg would squeeze the range of a stream without chroma, so grey chroma follows.
    pictures = torch.cat([luma, luma.new_full((count, 2 * height * ((width + 1) // 2)), 128)], 1)
    model = "vmaf_v0.6.1neg" if neg else "vmaf_v0.6.1"
    size = f"{width}:{height}"
    graph = (
        f"[0:v]split[a][b];[a]crop={size}:0:0:exact=1[source];[b]crop={size}:0:{height}:exact=1[clip];"
        f"[clip][source]libvmaf=model=version={model}:log_fmt=json:log_path=scores.json:n_threads=1"
    )
    command = [
        *(ffmpeg, "-hide_banner", "-loglevel", "error", "-threads", "1", "-filter_complex_threads", "1"),
        *("-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{width}x{2 * height}", "-i", "pipe:0"),
        *("-filter_complex", graph, "-f", "null", "-"),
    ]
    with TemporaryDirectory() as folder:
        ended = subprocess.run(
            command, input=pictures.cpu().numpy().tobytes(), cwd=folder, capture_output=True, check=False
        )
        log = Path(folder) / "scores.json"
        frames = json.loads(log.read_bytes())["frames"] if log.exists() and not ended.returncode else []
    if len(frames) != count:
        said = ended.stderr.decode(errors="replace").strip().splitlines() or [
            f"exit status {ended.returncode}"
        ]
        raise InputError(f"FFmpeg must give VMAF of {count} frames; got {len(frames)}: {said[-1]}.")
    end = "_egl_1" if neg else ""  # libvmaf names features after their options: the limit of enhancement gain
    names = [f"integer_{name}{end}" for name in ("adm2", *(f"vif_scale{scale}" for scale in range(4)))]
    return torch.tensor([[frame["metrics"][name] for name in names] for frame in frames])
