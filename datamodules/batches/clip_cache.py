"""Clips that a reading process keeps from one epoch to the next."""

from collections import OrderedDict

from datamodules.video import Clip, Sampling, Video, read_clip


class ClipCache:
    """The clips read last, up to a number of bytes: small corpora meet the same clips every round.

    Args:
        megabytes: the most that is kept, in each process that reads.
    """

    def __init__(self, megabytes: int) -> None:
        self._limit = megabytes * 2**20
        self._bytes = 0
        self._clips: OrderedDict[tuple[str, int], Clip] = OrderedDict()

    def read(self, video: Video, sampling: Sampling, draw: int) -> Clip:
        """Read a clip as `read_clip` does; one cache serves one sampling."""
        key = (video.video_id, draw)
        if key in self._clips:
            self._clips.move_to_end(key)
            return self._clips[key]
        clip = read_clip(video, sampling, draw)
        self._clips[key] = clip
        self._bytes += clip.frames.nbytes
        while self._bytes > self._limit:
            _, dropped = self._clips.popitem(last=False)
            self._bytes -= dropped.frames.nbytes
        return clip
