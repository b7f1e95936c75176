"""The bit rate of a video: what its packets weigh, and not what the container says of them."""

from contextlib import closing, suppress
from operator import attrgetter

import av

from datamodules.video.one_file import of_one_file
from datamodules.video.probing import Video
from datamodules.video.readers import FileReader


@of_one_file(attrgetter("path"))
def bitrate(video: Video) -> float:
    """Return bits per second: the bytes of the video stream's packets over the duration.

    Args:
        video: a readable file. Its sound does not count, nor what lies behind a damage.

    Raises:
        UnreadableVideo: the file cannot be opened.
    """
    with closing(FileReader(video.path)) as reader:
        total = 0
        with suppress(av.FFmpegError):  # what lies behind damage is not shown and does not count
            for packet in reader.container.demux(reader.stream):
                total += packet.size
    return 8 * total / video.duration
