"""The time axis of a video's frames, from what its packets say and not from what its container claims.

A clock that packets keep is taken as it is. Where it has holes, starts anew, stands still, is absent or
counts at another rate than is declared, frames are placed one after the other, each as long as those around
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

HOLE = 8
"""Frame lengths beyond which a time without a frame is a hole. No gap of 66 real clips has more than two."""

AROUND = 8
"""Gaps on either side whose median is the length of a frame, so that a rate that changes makes no hole."""

STILL = 1e-3
"""Seconds between frames below which a clock stands still: none here counts a thousand frames a second."""

RATE = 3.0
"""Factor within which a declared rate is believed: the two fields of a frame may be two packets."""

BACK = 1.0
"""Seconds by which a clock that goes back has started anew; at a keyframe it has whatever the step."""

USUAL_RATE = 25.0
"""Frames a second where a file declares none that can be."""


class Stamps(NamedTuple):
    """What a packet says, in seconds from the stream's start; NaN where it says nothing.

    Attributes:
        shown: when its frame is shown.
        decoded: when it is to be decoded.
        lasting: how long its frame lasts.
        key: whether decoding can begin here.
    """

    shown: float
    decoded: float
    lasting: float
    key: bool


@dataclass(frozen=True)
class TimeAxis:
    """Where the frames of a video lie.

    Attributes:
        times: (n,) seconds from the first frame, in order.
        places: (n,) of each packet the place of its frame in `times`; None where frames are counted as they
            come, for the packets do not tell.
        fps: frames a second.
        longest: seconds that the longest frame lasts.
        note: what the stamps do that no clock does, such as "have a hole of 3600 s at 4 s"; empty where they
            are as good as this axis.
    """

    times: Floats
    places: Places | None
    fps: float
    longest: float
    note: str

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return float(self.times[-1]) + 1 / self.fps


def measure(told: Sequence[Stamps], rate: float) -> TimeAxis:
    """Place the frames of packets in time.

    Args:
        told: of each frame's packet, in the order of the file; at least one.
        rate: frames a second as declared.

    Example:
        >>> stamps = [0.0, 0.04, 0.08, 3600.0, 3600.04]
        >>> axis = measure([Stamps(stamp, stamp, 0.04, True) for stamp in stamps], rate=25)
        >>> axis.times.round(2).tolist(), axis.note
        ([0.0, 0.04, 0.08, 0.12, 0.16], 'have a hole of 3599.9 s at 0.08 s')
    """
    shown, decoded, lasting, key = (np.array(column, float) for column in zip(*told, strict=True))
    declared, rate = rate, rate if 0 < rate <= 1 / STILL else USUAL_RATE
    stamps = np.where(np.isnan(shown), decoded, shown)
    known = ~np.isnan(stamps)
    if not known.any():
        return TimeAxis(np.arange(len(stamps)) / rate, None, rate, 1 / rate, "are absent")
    faults = [] if known.all() else [f"are absent from {(~known).sum()} of {len(known)} frames"]
    usual = _usual_length(stamps[known], rate)
    stamps = _filled(stamps, known, usual)

    steps = np.diff(decoded)  # rising whatever the order in which frames are shown
    anew = ((steps < 0) & (key[1:] > 0)) | (np.where(np.isnan(steps), np.diff(stamps), steps) < -BACK)
    if back := int(((steps < 0) & ~anew).sum()):
        faults.append(f"go back {_times(back)}")
    times, places = np.empty(len(stamps)), np.empty(len(stamps), np.int64)
    starts = [0, *(np.flatnonzero(anew) + 1).tolist()]
    end, still, longest, holes = 0.0, 0, 0.0, []
    for start, stop in zip(starts, [*starts[1:], len(stamps)], strict=True):
        order = start + np.argsort(stamps[start:stop], kind="stable")
        gaps, lengths = _gaps(stamps[order], usual, rate)
        open_gaps, stands = gaps > HOLE * lengths, np.pad(gaps < STILL, 1)
        # Two at one time may be the fields of a frame; three are none.
        stands = stands[1:-1] & (stands[:-2] | stands[2:])
        closed = np.where(open_gaps | stands, lengths, gaps)
        times[start:stop] = end + np.concatenate([[0.0], closed.cumsum()])
        places[order] = np.arange(start, stop)
        holes += list(zip(times[start : stop - 1][open_gaps], gaps[open_gaps], strict=True))
        still += int(stands.sum())
        last = float(lengths[-1]) if len(lengths) else usual
        longest = max(longest, last, closed.max(initial=0.0))
        end = float(times[stop - 1]) + last
    if lasting[order[-1]] > HOLE * max(last, 1 / rate):
        holes.append((times[-1], lasting[order[-1]]))

    if holes:
        faults.append(_told_holes(holes))
    if len(starts) > 1:
        faults.append(f"start anew {_times(len(starts) - 1)}, first at {times[starts[1]]:.4g} s")
    if still:
        faults.append(f"stand still for {still} frames")
    measured = float((len(times) - 1) / times[-1]) if times[-1] > 0 else 0.0
    if measured and not measured / RATE <= declared <= measured * RATE:
        rate = measured
        faults = faults or [f"count {measured:.3g} frames a second and not the declared {declared:.3g}"]
    elif measured and faults and not measured / 1.5 < declared < measured * 1.5:
        rate = measured  # what was declared may follow from faulty stamps
    return TimeAxis(times, places, rate, longest, " and ".join(faults))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _told_holes(holes: Sequence[tuple[float, float]]) -> str:
    """Return in words where holes begin and how many seconds they have."""
    (first, seconds), count = holes[0], len(holes)
    if count == 1:
        return f"have a hole of {seconds:.5g} s at {first:.4g} s"
    return f"have {count} holes of {sum(length for _, length in holes):.5g} s, the first at {first:.4g} s"


def _usual_length(stamps: Floats, rate: float) -> float:
    """Return the median length of a frame of a clock that goes on, else that of the declared rate."""
    gaps = np.diff(np.sort(stamps))
    going = gaps[gaps >= STILL]
    return float(np.median(going)) if len(going) else 1 / rate


def _filled(stamps: Floats, known: npt.NDArray[np.bool_], length: float) -> Floats:
    """Give frames without a stamp one behind the frame before, and those before the first one before it."""
    index = np.arange(len(stamps))
    before = np.maximum.accumulate(np.where(known, index, -1))
    anchor = np.where(before < 0, np.flatnonzero(known)[0], before)
    return stamps[anchor] + (index - anchor) * length


def _gaps(stamps: Floats, usual: float, rate: float) -> tuple[Floats, Floats]:
    """Return the gaps between sorted stamps, and the length of a frame around each."""
    gaps = np.diff(stamps)
    if len(gaps) != 1 and gaps.max(initial=0.0) <= HOLE * max(gaps.min(initial=np.inf), STILL):
        return gaps, np.full(len(gaps), usual)  # none is a hole, whatever its neighbours
    around = np.pad(np.where(gaps < STILL, usual, gaps), AROUND, constant_values=np.nan)
    windows = sliding_window_view(around, AROUND)
    sides = (_medians(windows[: len(gaps)]), _medians(windows[AROUND + 1 :]))
    lengths = np.fmax(*sides)
    return gaps, np.where(np.isnan(lengths), 1 / rate, lengths)  # NaN: a gap without neighbours


def _medians(windows: Floats) -> Floats:
    """Return the median of each row (n, m) without its NaN; NaN for a row of NaN."""
    ordered = np.sort(windows, axis=1)  # NaN come last
    count = (~np.isnan(ordered)).sum(axis=1)
    low, high = (
        np.take_along_axis(ordered, middle.clip(0)[:, None], axis=1)[:, 0]
        for middle in ((count - 1) // 2, count // 2)
    )
    return (low + high) / 2
