"""Bits a second are those of the video's packets: not of sound, container or declaration."""

from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.video import bitrate, probe


def test_counts_the_packets_of_the_video_alone(tmp_path: Path) -> None:
    path, written = tmp_path / "both.mp4", 0
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
        frames = [av.VideoFrame.from_ndarray(np.roll(noise, time, axis=1)) for time in range(25)]
        for frame in [*frames, None]:
            for packet in video.encode(frame):
                written += packet.size
                container.mux(packet)
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    assert bitrate(probe(path)) == pytest.approx(8 * written / 1.0)
