"""What goes wrong in time: frames that are repeated, dropped for good, or lost for a while.

Each operator only chooses which frame is shown at each place, and only within a segment: the picture on the
screen before a segment's first frame is not in the clip. Kornia has no such operators.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.distortions.arguments import Generators, draw


class Segments(NamedTuple):
    """Where each frame of clips (B, T, C, H, W) stands in its segment, all (B, T).

    Attributes:
        first: index of the segment's first frame.
        place: number of frames since then.
        length: number of frames of the segment.
    """

    first: Tensor
    place: Tensor
    length: Tensor


def segments_of(clips: Tensor, times: Tensor | None) -> Segments:
    """Cut clips where the time step exceeds 1.5 times the clip's (lower) median step.

    Args:
        clips: (B, T, C, H, W).
        times: (B, T), seconds, rising; None: every clip is one segment.

    Example:
        >>> times = torch.tensor([[0, 1, 2, 30, 31, 32]]) / 30
        >>> first, place, length = segments_of(torch.rand(1, 6, 3, 8, 8), times)
        >>> first.tolist(), place.tolist(), length.tolist()
        ([[0, 0, 0, 3, 3, 3]], [[0, 1, 2, 0, 1, 2]], [[3, 3, 3, 3, 3, 3]])
    """
    batch, count = clips.shape[:2]
    frame = torch.arange(count, device=clips.device).expand(batch, count)
    opens = frame == 0
    if times is not None and count > 1:
        steps = times.diff(dim=1)
        opens[:, 1:] |= steps > 1.5 * steps.median(dim=1, keepdim=True).values
    first = torch.where(opens, frame, 0).cummax(dim=1).values
    number = torch.zeros_like(first).scatter_add(1, first, torch.ones_like(first))
    return Segments(first, frame - first, number.gather(1, first))


def shown(clips: Tensor, source: Tensor) -> Tensor:
    """Return clips (B, T, C, H, W) that show frame `source` (B, T) at each place.

    Example:
        >>> clips = torch.arange(3.0).view(1, 3, 1, 1, 1)
        >>> shown(clips, torch.tensor([[0, 0, 2]])).flatten()
        tensor([0., 0., 2.])
    """
    return clips[torch.arange(len(clips), device=clips.device)[:, None], source]


def held(clips: Tensor, anew: Tensor) -> Tensor:
    """Return clips that show a frame where `anew` (B, T) is set and hold the frame before where it is not.

    Example:
        >>> clips = torch.arange(4.0).view(1, 4, 1, 1, 1)
        >>> held(clips, torch.tensor([[True, False, False, True]])).flatten()
        tensor([0., 0., 0., 3.])
    """
    frame = torch.arange(anew.shape[1], device=anew.device)
    return shown(clips, torch.where(anew, frame, 0).cummax(dim=1).values)


def stutter(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: Generators | None = None
) -> Tensor:
    """Replace a share p of the frames by the frame shown before; a run of replaced frames holds the picture.

    Chance decides which frames are replaced, but not how many: p times the number of frames that have one
    before them in their segment, rounded, at least one. Independent draws would leave 42 % of four-frame
    clips untouched at p = 0.25, and often turn two levels round.

    Args:
        clips: (B, T, C, H, W) in [0, 1]. A clip of one frame has nothing to repeat and stays as it is.
        strength: (B,), p in (0, 1]. W2S-VQA does not give it; our levels 0.25, 0.5, 0.85 repeat one, two and
            three of four frames.
        times: (B, T), seconds, rising; tells segments apart (`segments_of`).
        generator: where the draws come from.

    Returns:
        Tensor (B, T, C, H, W), each frame one of the clip's.

    Raises:
        InputError: there is no generator, or it is on another device.

    Example:
        >>> clips = torch.arange(4.0).view(1, 4, 1, 1, 1)
        >>> result = stutter(clips, torch.tensor([0.5]), generator=torch.Generator().manual_seed(0))
        >>> result.shape, int((result.diff(dim=1) == 0).sum())
        (torch.Size([1, 4, 1, 1, 1]), 2)
    """
    opens = segments_of(clips, times).place == 0
    repeatable = (~opens).sum(dim=1)
    repeated = (strength * repeatable).round().clamp(min=1).minimum(repeatable)
    # the ranks of random keys choose that many frames; frames that open a segment rank last
    keys = draw("stutter", generator, clips).masked_fill_(opens, 2.0)
    return held(clips, anew=keys.argsort(dim=1).argsort(dim=1) >= repeated[:, None])


def frame_rate(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: Generators | None = None
) -> Tensor:
    """Lower the frame rate and keep the duration: hold a frame until the next instant that is kept.

    Kept instants lie `strength` frame periods apart, by `times`, so that frames that the camera dropped count
    as time that passed. Their phase is drawn for each segment among the phases that show the fewest new
    pictures: floor((K - 1) / strength) in a segment of K frames. Any phase would do for a long video, but
    four frames at a sixth of the rate show one new picture or none by chance; with the fewest new pictures,
    no draw of a level looks smoother than a draw of the level below.

    Args:
        clips: (B, T, C, H, W) in [0, 1]. A clip of one frame stays as it is.
        strength: (B,), the factor by which the rate falls, above 1, whole or not. Our levels 1.5, 3, 6 (20,
            10, 5 frames a second out of 30) leave two, one and no new picture after the first of four frames.
        times: (B, T), seconds, rising; None: evenly spaced frames, every clip one segment.
        generator: where the phases come from.

    Returns:
        Tensor (B, T, C, H, W), each frame one of the clip's.

    Raises:
        InputError: there is no generator, or it is on another device.

    Example:
        >>> clips = torch.arange(8.0).view(1, 8, 1, 1, 1)
        >>> result = frame_rate(clips, torch.tensor([3.0]), generator=torch.Generator().manual_seed(0))
        >>> result.shape, int((result.diff(dim=1) > 0).sum())
        (torch.Size([1, 8, 1, 1, 1]), 2)
    """
    first, place, length = segments_of(clips, times)
    periods = place.float()
    if times is not None and clips.shape[1] > 1:
        period = times.diff(dim=1).median(dim=1, keepdim=True).values
        periods = ((times - times.gather(1, first)) / period).round().float()
    cycles = periods / strength[:, None]
    draws = draw("frame_rate", generator, clips).gather(1, first)
    phase = draws * (1 - cycles.gather(1, first + length - 1).frac())
    # a frame is shown when its instant lies in another cycle than the instant of the frame before it
    cycle = (cycles + phase).floor()
    return held(clips, anew=(place == 0) | (cycle > cycle.roll(1, dims=1)))


def freeze(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: Generators | None = None
) -> Tensor:
    """Lose packets: freeze the picture for one stretch of every segment, then jump to where it would be.

    The stretch has `strength` times the segment's number of frames, rounded, at least one; it never holds the
    first frame, which has no frame before it. Only the place of the stretch is drawn.

    Args:
        clips: (B, T, C, H, W) in [0, 1]. A segment of one frame stays as it is.
        strength: (B,), the share of a segment, in (0, 1]. Our levels 0.25, 0.5, 0.75 freeze one, two and
            three of four frames.
        times: (B, T), seconds, rising; tells segments apart (`segments_of`).
        generator: where the draws come from.

    Returns:
        Tensor (B, T, C, H, W), each frame one of the clip's.

    Raises:
        InputError: there is no generator, or it is on another device.

    Example:
        >>> clips = torch.arange(4.0).view(1, 4, 1, 1, 1)
        >>> result = freeze(clips, torch.tensor([0.75]), generator=torch.Generator().manual_seed(0))
        >>> result.flatten()
        tensor([0., 0., 0., 0.])
    """
    first, place, length = segments_of(clips, times)
    frozen = (strength[:, None] * length).round().clamp(min=1).minimum(length - 1)
    draws = draw("freeze", generator, clips).gather(1, first)
    begin = 1 + (draws * (length - frozen)).floor()
    lost = (begin <= place) & (place < begin + frozen)
    return held(clips, anew=~lost)
