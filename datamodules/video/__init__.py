"""From a file to a clip: probing, decoding, colour, sampling, and the views that a vision tower is shown.

Imports only `datamodules.errors`, `datamodules.checks` and `datamodules.names`: nothing here knows what a
corpus, a label or a pair is.
"""

from datamodules.video.bitrate import bitrate
from datamodules.video.colour import luma
from datamodules.video.decoding import Clip, read_clip, read_clips
from datamodules.video.probing import Video, probe
from datamodules.video.sampling import Cut, Sampling, Span

__all__ = ["Clip", "Cut", "Sampling", "Span", "Video", "bitrate", "luma", "probe", "read_clip", "read_clips"]
