"""From stored frames to full-range 8-bit RGB as an SDR display would show it.

FFmpeg cuts the window before it converts, and is told the matrix and the range rather than left to guess. PQ
and HLG go through one fixed rule, written here because the FFmpeg within PyAV has no zscale filter.
"""

import math
from functools import cache

import av
import numpy as np
import numpy.typing as npt
import torch
from av.filter import Graph
from av.video.frame import VideoFrame
from torch import Tensor

from datamodules.errors import UnreadableVideo

CHROMA_MARGIN = 8  # pixels converted around a window, so that chroma at its border is interpolated as inside

# Numbers of ITU-T H.273, which FFmpeg uses as they are.
MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}

RGB_OR_UNKNOWN, FULL_RANGE, PQ, HLG = (0, 2, 3), 2, 16, 18

REFERENCE_WHITE = 203.0  # cd/m2 of diffuse white in HDR, ITU-R BT.2408

HLG_PEAK = 1000.0  # cd/m2 of the nominal HLG display, ITU-R BT.2100: system gamma 1.2

KNEE = 0.5  # linear SDR light up to which HDR passes unchanged

BT2020_TO_BT709 = (  # ITU-R BT.2087, inverted: linear light
    (1.6605, -0.5876, -0.0728),
    (-0.1246, 1.1329, -0.0083),
    (-0.0182, -0.1006, 1.1187),
)


class WindowConverter:
    """Turns stored frames into the window's RGB, uint8 (H, W, 3); keeps FFmpeg's graph between frames.

    The matrix is the stream's; where the stream names none, it is BT.709 from 720 stored lines up, else
    BT.601. A range that is not named is limited, for RGB full. More than 8 bits are rounded, without dither.
    PQ and HLG become SDR as `hdr_to_sdr` says; wider primaries of SDR stay as they are.

    Args:
        path: the file, for error messages.
        window: side of the square window in pixels; None converts whole frames.
        place: where the window lies, across and down, as parts in [0, 1) of the room it has in the stored
            frame.
    """

    def __init__(self, path: str, window: int | None, place: tuple[float, float]) -> None:
        self.path = path
        self.window = window
        self.place = place
        self._made_for: tuple[object, ...] = ()

    def __call__(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """Convert one frame and turn it upright; raise UnreadableVideo if its colours cannot be converted."""
        colour = (frame.colorspace, frame.color_range, frame.color_trc)
        key = (frame.width, frame.height, frame.format.name, *colour)
        try:
            if key != self._made_for:
                self._build(frame)
                self._made_for = key
            self._graph.vpush(frame)
            stored = self._graph.vpull().to_ndarray()[self._inside]
        except av.FFmpegError as error:
            raise UnreadableVideo(f"{self.path} cannot be converted to RGB: {error.strerror}.") from error
        if frame.color_trc in (PQ, HLG):
            image = hdr_to_sdr(stored.astype(np.uint16, copy=False), hlg=frame.color_trc == HLG)
        else:
            image = stored.astype(np.uint8, copy=False)
        image = np.rot90(image, frame.rotation // 90)
        if self.window is not None and min(image.shape[:2]) < self.window:
            lacking = [max(self.window - side, 0) for side in image.shape[:2]]
            image = np.pad(image, [*((gap // 2, gap - gap // 2) for gap in lacking), (0, 0)], mode="edge")
        return image

    def _build(self, frame: VideoFrame) -> None:
        matrix = MATRICES.get(frame.colorspace, "bt709" if frame.height >= 720 else "bt601")
        if frame.colorspace not in MATRICES and frame.colorspace not in RGB_OR_UNKNOWN:
            raise UnreadableVideo(f"{self.path} uses the matrix {frame.colorspace} of H.273, not supported.")
        (left, width), columns = self._span(frame.width, self.place[0])
        (top, height), rows = self._span(frame.height, self.place[1])
        self._inside = (rows, columns)
        full = frame.color_range == FULL_RANGE or frame.format.is_rgb or frame.format.name.startswith("yuvj")
        self._graph = Graph()
        self._graph.link_nodes(
            self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            ),
            self._graph.add("crop", f"{width}:{height}:{left}:{top}:exact=1"),
            self._graph.add(
                "scale",
                f"in_color_matrix={matrix}:in_range={'full' if full else 'limited'}:out_range=full"
                ":flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact:sws_dither=none",
            ),
            self._graph.add("format", "rgb48le" if frame.color_trc in (PQ, HLG) else "rgb24"),
            self._graph.add("buffersink"),
        ).configure()

    def _span(self, side: int, place: float) -> tuple[tuple[int, int], slice]:
        """Return the (start, length) to convert along one side, and where the window lies within that."""
        if self.window is None or self.window >= side:
            return (0, side), slice(None)
        start = min(int((side - self.window + 1) * place), side - self.window)
        # Multiples of the margin are multiples of every chroma subsampling.
        first = max(start - CHROMA_MARGIN, 0) // CHROMA_MARGIN * CHROMA_MARGIN
        last = min(start + self.window + CHROMA_MARGIN, side)
        last = min(first + math.ceil((last - first) / CHROMA_MARGIN) * CHROMA_MARGIN, side)
        return (first, last - first), slice(start - first, start - first + self.window)


def hdr_to_sdr(image: npt.NDArray[np.uint16], *, hlg: bool) -> npt.NDArray[np.uint8]:
    """Show HDR on an SDR display by one fixed rule, the same for every video.

    1. PQ (ITU-R BT.2100, SMPTE ST 2084) or HLG (BT.2100 with its OOTF for 1000 cd/m2) to displayed light.
    2. Light relative to the reference white of 203 cd/m2 (ITU-R BT.2408).
    3. BT.2020 to BT.709 primaries in linear light, negative values to 0.
    4. Highlights roll off by the largest of R, G, B, so that hue is kept: x above k = 0.5 becomes
       k + (1 - k) (1 - exp(-(x - k) / (1 - k))); reference white ends at 0.82.
    5. The inverse of the SDR display's curve, ITU-R BT.1886: power 1 / 2.4.

    Args:
        image: uint16 (H, W, 3), R'G'B' in BT.2020 primaries, full range.
        hlg: HLG if true, else PQ.

    Returns:
        uint8 (H, W, 3), R'G'B' in BT.709 primaries, full range.

    Example:
        >>> hdr_to_sdr(np.full((2, 4, 3), 40000, np.uint16), hlg=True).shape
        (2, 4, 3)
    """
    # torch's powers are several times faster than numpy's.
    light = torch.from_numpy(_light_of_codes(hlg)[image])
    if hlg:
        scene = light @ torch.tensor([0.2627, 0.6780, 0.0593])
        light = HLG_PEAK * scene.pow(0.2).unsqueeze(-1) * light
    light = (light @ torch.tensor(BT2020_TO_BT709).T / REFERENCE_WHITE).clamp_min(0)
    peak = light.amax(dim=-1, keepdim=True)
    rolled = KNEE - (1 - KNEE) * torch.expm1((KNEE - peak) / (1 - KNEE))
    light *= torch.where(peak > KNEE, rolled / peak, 1)
    shown: npt.NDArray[np.uint8] = (255 * light.pow(1 / 2.4)).round().to(torch.uint8).numpy()
    return shown


@cache
def _light_of_codes(hlg: bool) -> npt.NDArray[np.float32]:
    """Return the linear light of each 16-bit code (ITU-R BT.2100): cd/m2 for PQ, scene light to 1 for HLG."""
    signal = np.linspace(0, 1, 1 << 16)
    if hlg:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:
        power = signal ** (32 / 2523)
        light = 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (16384 / 2610)
    return light.astype(np.float32)


LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""ITU-R BT.601, on full-range RGB."""


def luma(clips: Tensor) -> Tensor:
    """Return the BT.601 luma (..., H, W) of RGB (..., 3, H, W), in the same range.

    Example:
        >>> luma(torch.ones(2, 4, 3, 48, 64)).shape
        torch.Size([2, 4, 48, 64])
    """
    red, green, blue = clips.unbind(-3)
    return LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue
