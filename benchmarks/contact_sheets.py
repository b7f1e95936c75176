"""Contact sheets: one picture a simulator, the source and every level side by side, to be looked at.

    python benchmarks/contact_sheets.py --videos ../shared/data/clips --output docs/labels

Simulators of still pictures have a row for each of three clips and a column for the source and each level.
What shows only in time (temporal and geometric ones) has a row for the source and each level and a column for
each of eight consecutive frames. Tiles are native pixels, neither scaled nor smoothed.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from experiment import arguments
from PIL import Image, ImageDraw  # comes with torchvision
from torch import Tensor

from datamodules.codecs import CODECS, Codec
from datamodules.distortions import DISTORTIONS, Distortion
from datamodules.video import Sampling, Video, probe, read_clip

FRAMES = 8
TILE = 160  # pixels of a clip's window in sheets of levels
STRIP_TILE = 128  # in sheets of frames
CAPTION = 16  # pixels of a line of text
JPEG_QUALITY = 88  # with whole chroma: finer than any level that is shown


def read(path: Path, window: int) -> tuple[Video, Tensor, Tensor]:
    """Return the video and FRAMES consecutive frames uint8 (T, 3, H, W) from its middle with their times."""
    video = probe(path)
    return video, *read_clip(video, Sampling(segments=1, frames=FRAMES, window=window))


def versions(simulator: Distortion | Codec, video: Video, frames: Tensor, times: Tensor) -> Tensor:
    """Return the source and every level of a clip: uint8 (levels + 1, T, 3, H, W)."""
    if isinstance(simulator, Codec):
        coded = [simulator(frames, level, video.fps) for level in range(len(simulator.levels) + 1)]
        return torch.stack(coded)
    level = torch.arange(len(simulator.levels) + 1)
    clips = (frames / 255).expand(len(level), *frames.shape)
    generator = torch.Generator().manual_seed(0)
    distorted = simulator(clips, level, times=times.expand(len(level), -1), generator=generator)
    return (distorted * 255).round().byte()


def sheet(
    title: str, rows: Sequence[str], columns: Sequence[str], tiles: Sequence[Sequence[Tensor]]
) -> Image.Image:
    """Return tiles uint8 (3, H, W) in a grid, with a title, and a caption above each column and each row."""
    side = tiles[0][0].shape[-1]
    height = CAPTION + side
    image = Image.new("RGB", (side * len(columns), 2 * CAPTION + height * len(rows)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((2, 2), title, fill="black")
    for x, column in enumerate(columns):
        draw.text((side * x + 2, CAPTION + 2), column, fill="black")
    for y, (row, line) in enumerate(zip(rows, tiles, strict=True)):
        top = 2 * CAPTION + height * y
        draw.text((2, top + 2), row, fill="black")
        for x, tile in enumerate(line):
            image.paste(Image.fromarray(tile.permute(1, 2, 0).numpy()), (side * x, top + CAPTION))
    return image


def draw_sheet(simulator: Distortion | Codec, paths: Sequence[Path]) -> Image.Image:
    """Draw the sheet of a simulator; a simulator that shows in time is drawn on the first of the clips."""
    captions = ["source"] + [
        f"level {level}: {strength:g}" for level, strength in enumerate(simulator.levels, 1)
    ]
    if simulator.family in ("temporal", "geometry"):
        graded = versions(simulator, *read(paths[0], STRIP_TILE))
        title = f"{simulator.name} ({simulator.family}), {paths[0].name}"
        return sheet(title, captions, [f"frame {number}" for number in range(FRAMES)], list(graded))
    middle = [versions(simulator, *read(path, TILE))[:, FRAMES // 2] for path in paths]
    return sheet(
        f"{simulator.name} ({simulator.family})",
        [path.name for path in paths],
        captions,
        [list(v) for v in middle],
    )


def main() -> None:
    """Write the sheets."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/clips"), help="a folder of clips")
    parser.add_argument(
        "--names",
        nargs="+",
        default=["Seeking_30_480_1050.mp4", "vsfa_test.mp4", "10053703034.mp4"],
        help="files of the folder; the first should move",
    )
    parser.add_argument("--simulators", nargs="+", default=[*DISTORTIONS, *CODECS], help="by default all")
    parser.add_argument("--output", type=Path, default=Path("docs/labels"), help="a folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    paths = [options.videos / name for name in options.names]
    simulators: dict[str, Distortion | Codec] = {**DISTORTIONS, **CODECS}
    for name in options.simulators:
        target = options.output / f"{name}.jpg"
        draw_sheet(simulators[name], paths).save(target, quality=JPEG_QUALITY, subsampling=0)
        print(f"{target}: {target.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
