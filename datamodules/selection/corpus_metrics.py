"""The nine low-level metrics by which a corpus is described and chosen, measured at one frame a second.

The set is that of the published method; data sets have been shaped so since Vonikakis et al. (2017) and
KoNViD-1k (2017). All are taken from whole native frames as a display would show them, in full-range RGB, so
that limited and full range, SDR and HDR, stand on one scale. Metrics that need neighbours in time see
consecutive frames, never frames a second apart.
"""

import math
from pathlib import Path

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.corpus.table import measure_videos
from datamodules.errors import UnreadableVideo
from datamodules.files import FileCache, cache_folder
from datamodules.selection.cpbd import cpbd
from datamodules.teachers import artefacts
from datamodules.teachers.siti import spatial_information, temporal_information
from datamodules.video import Video, luma
from datamodules.video.frame_runs import read_runs

METRICS = (
    "blockiness",
    "blur",
    "contrast",
    "noise",
    "flickering",
    "colourfulness",
    "luminance",
    "spatial_information",
    "temporal_information",
)

SCHEMA = pa.schema([(name, pa.float64()) for name in METRICS])

METRICS_VERSION = 1  # raise it when the same file would measure otherwise: all files are measured anew

MACROBLOCK = 16  # pixels of a side


def blockiness(luma: Tensor) -> float:
    """Return how much a grid of 8 pixels stands out: 1 for none, larger for more.

    The differences of luma across block boundaries, at the phase where they are largest, over the differences
    inside blocks, after Wang, Sheikh and Bovik (ICIP 2002); the reciprocal of `artefacts.blockiness`.

    Args:
        luma: (H, W) in 0..255.
    """
    return 1 / artefacts.blockiness(luma[None] / 255).item()


def blur(luma: Tensor) -> float:
    """Return 1 - CPBD, in [0, 1]: the share of edges on which blur would be detected (`cpbd.cpbd`).

    Args:
        luma: (H, W) in 0..255.
    """
    return 1 - cpbd(luma.numpy())


def contrast(luma: Tensor) -> float:
    """Return the standard deviation of luma (H, W), in its units: RMS contrast (Peli, JOSA A 7(10), 1990)."""
    return luma.std(correction=0).item()


def noise(luma: Tensor) -> float:
    """Return the deviation of white noise by Immerkaer (CVIU 64(2), 1996), in the units of luma.

    The noise is the mean absolute response to the difference of two Laplacians, which cancels planes. Fine
    texture counts as noise, as the method's author says. The mean is over the whole frame: over quiet blocks
    alone, as in `artefacts.noise`, black bars would hide the noise.

    Args:
        luma: (H, W), at least 3 x 3.
    """
    kernel = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    response = F.conv2d(luma[None, None], kernel[None, None]).abs().mean().item()
    return math.sqrt(math.pi / 2) / 6 * response


def flickering(luma: Tensor) -> float:
    """Return how far block brightness goes there and back within three frames, in the units of luma.

    Flickering is the mean over macroblocks of half the absolute second difference of their means: a for
    brightness that alternates by a, 0 for a still scene and for a steady fade. Macroblocks are the unit of
    Pandel's flicker measure (WIAMIS 2008), which counts how often blocks start to be updated. That measure
    needs a long run of frames, which one frame a second does not give.

    Args:
        luma: (T, H, W), consecutive frames; fewer than three do not flicker.
    """
    if len(luma) < 3:
        return 0.0
    block = min(MACROBLOCK, *luma.shape[-2:])
    means = F.avg_pool2d(luma[:, None], block)
    return (means[0] - 2 * means[1] + means[2]).abs().mean().item() / 2


def colourfulness(frame: Tensor) -> float:
    """Return the colourfulness M3 of Hasler and Suesstrunk (SPIE 5007, 2003): 0 for grey, 100 is a lot.

    Args:
        frame: RGB (3, H, W) in 0..255.
    """
    red, green, blue = frame
    opponents = torch.stack([(red - green).flatten(), ((red + green) / 2 - blue).flatten()])
    spread, centre = opponents.std(dim=1, correction=0), opponents.mean(dim=1)
    return math.hypot(*spread.tolist()) + 0.3 * math.hypot(*centre.tolist())


def measure_run(frames: Tensor) -> list[float]:
    """Measure the nine metrics, in the order of METRICS, on one run of consecutive frames.

    Args:
        frames: uint8 RGB (T, 3, H, W), T from 1 to 3. Metrics of space alone are taken from the first frame.

    Returns:
        Luminance is mean luma (ITU-R BT.601) in 0..255. SI and TI are those of ITU-T P.910, of the first
        frame and as the mean over pairs of frames. For the other metrics see their functions.
    """
    y = torch.stack([luma(frame.float()) for frame in frames])  # one by one, for 4K frames are large in float
    return [
        blockiness(y[0]),
        blur(y[0]),
        contrast(y[0]),
        noise(y[0]),
        flickering(y),
        colourfulness(frames[0].float()),
        y[0].mean().item(),
        spatial_information(y[0]).item(),
        temporal_information(y).mean().item() if len(y) > 1 else 0.0,
    ]


def measure_video(video: Video) -> list[float]:
    """Measure the nine metrics on runs of three frames from 0, 1, 2, ... seconds on, and average over them.

    Of a video of less than a frame a second each frame begins a run.

    P.910 takes the maximum over time. Here it is the mean: one cut or one flash should not describe a whole
    video, and a maximum grows with the duration.

    Raises:
        UnreadableVideo: the file gives no frame, or frames of less than 3 x 3 pixels.
    """
    if min(video.width, video.height) < 3:
        raise UnreadableVideo(
            f"{video.path} has frames of {video.width} x {video.height} pixels, too small to measure."
        )
    step = max(1.0, 1 / video.fps)
    times = [step * place for place in range(math.ceil(video.duration / step))]
    runs = [measure_run(run) for run in read_runs(video, times, 3)]
    return torch.tensor(runs, dtype=torch.float64).mean(dim=0).tolist()


def measure(
    corpus: pa.Table, *, cache: Path | None = None, workers: int | None = None, progress: bool = True
) -> pa.Table:
    """Add the nine metrics to a corpus, measured once per file and kept beside the probing cache.

    Args:
        corpus: as `build_corpus` returns it.
        cache: folder of the cache; by default the user's.
        workers: threads; by default as many as there are cores.
        progress: whether to show a bar on stderr while files are measured.

    Returns:
        The corpus with the columns METRICS, float64; null where a file cannot be read.

    Raises:
        InputError: the cache folder cannot be written.
    """
    store = FileCache((cache or cache_folder()) / "metrics.parquet", SCHEMA, METRICS_VERSION)
    of_video = measure_videos(
        corpus,
        store,
        lambda video: dict(zip(METRICS, measure_video(video), strict=True)),
        workers=workers,
        description="Measuring videos",
        progress=progress,
    )
    rows = [of_video.get(video_id, {}) for video_id in corpus["video_id"].to_pylist()]
    measured = corpus.drop_columns([name for name in METRICS if name in corpus.column_names])
    for name in METRICS:
        measured = measured.append_column(name, pa.array([row.get(name) for row in rows], pa.float64()))
    return measured
