"""Videos to be scored, as they cross to the device."""

from typing import NamedTuple

from torch import Tensor

from datamodules.labels import ClipItem


class VideoBatch(NamedTuple):
    """Clips of V readable videos, and what else was asked for in the same batch.

    Attributes:
        clips: of each of the V videos n clips (n, T, 3, H, W) uint8; whole frames differ in size.
        rows: which of the datamodule's requests the V videos are.
        errors: row -> sentence, for videos of the batch that cannot be read.
    """

    clips: list[Tensor]
    rows: list[int]
    errors: dict[int, str]


def collate_videos(items: list[ClipItem]) -> VideoBatch:
    """Collate the readable videos; a batch may be left with none."""
    read = [item for item in items if item.error is None]
    return VideoBatch(
        clips=[item.frames for item in read],
        rows=[item.position for item in read],
        errors={item.position: item.error for item in items if item.error is not None},
    )
