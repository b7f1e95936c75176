"""Teachers: scores that need neither a download nor a human label, and scores from any tool's file.

A teacher only scores clips; reading, distorting, batching and averaging over segments and draws are done once
here, so that every teacher's standard error means the same: the spread of its scores within one video.
"""

import csv
import json
import logging
import math
import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from datamodules.annotation import ClipDataset, ClipItem, Request, distorted, fingerprint_of
from datamodules.decoding import Sampling, Video
from datamodules.errors import InputError
from datamodules.label_store import Annotation

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""ITU-R BT.601, on full-range RGB."""

_log = logging.getLogger(__name__)


def luma(clips: Tensor) -> Tensor:
    """Return the BT.601 luma (..., H, W) of RGB (..., 3, H, W), in the same range."""
    red, green, blue = clips.unbind(-3)
    return LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue


class Teacher(ABC):
    """An annotator that scores clips.

    A subclass gives `score`, adds to `settings` what it depends on, and raises `version` if its code changes.

    Args:
        name: under which the scores are stored.
        sampling: how clips are cut; unless `pad`, the window is an upper bound and smaller frames come whole.
        draws: clips per video.
        device: where clips are distorted and scored; no part of the fingerprint.
    """

    version = 1
    batch_clips = 8
    """Clips read before they are scored together: enough whole frames for a GPU, few enough for a laptop."""
    pad = False
    """Whether smaller frames are padded to the window, as for models trained on windows of one size."""
    by_segment = True
    """Whether each segment is scored by itself; False: all segments of a clip are one clip to `score`."""

    def __init__(
        self, name: str, sampling: Sampling, draws: int = 1, device: str | torch.device = "cpu"
    ) -> None:
        self.name = name
        self.sampling = sampling
        self.draws = draws
        self.device = torch.device(device)

    @abstractmethod
    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1] on the teacher's device.

        Returns:
            (B,), higher better whatever the metric's own sign; NaN where the clip gives nothing to judge.
        """

    def prepare(self, train: Sequence[Video]) -> None:  # noqa: B027 - most teachers have nothing to fit
        """Take note of the train split; to be called before the fingerprint is read.

        It must cost little: the fitting itself waits for the first clip that has no score yet.
        """

    def fit(self, workers: int) -> None:  # noqa: B027 - most teachers have nothing to fit
        """Fit to what `prepare` took note of, reading in that many processes; called before any score."""

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that decides a score, in plain types; subclasses add theirs."""
        return {"version": self.version, "sampling": asdict(self.sampling), "draws": self.draws}

    @property
    def fingerprint(self) -> str:
        """Hash of name and settings."""
        return fingerprint_of(self.name, self.settings)

    def annotate(self, requests: Sequence[Request], workers: int = 0) -> Iterator[Annotation]:
        """Yield the mean score over draws and segments of each request that can be read.

        The standard error is the standard deviation over draws and segments divided by the root of their
        number; NaN where there is one.
        """
        self.fit(workers)
        items: list[ClipItem] = []
        for item in ClipDataset(requests, self.sampling, self.draws, self.pad).read(workers):
            if items and (
                item.frames.shape != items[0].frames.shape or (len(items) + 1) * self.draws > self.batch_clips
            ):
                yield from self._annotate_batch([requests[i.position] for i in items], items)
                items = []
            items.append(item)
        if items:
            yield from self._annotate_batch([requests[i.position] for i in items], items)

    @torch.inference_mode()
    def _annotate_batch(self, requests: Sequence[Request], items: Sequence[ClipItem]) -> Iterator[Annotation]:
        clips = torch.stack(
            [
                distorted(item.frames.to(self.device), item.times.to(self.device), request)
                for request, item in zip(requests, items, strict=True)
            ]
        )
        # (videos, draws, segments x frames, C, H, W) -> (what is scored by itself, its frames, C, H, W)
        frames = self.sampling.frames if self.by_segment else clips.shape[2]
        scores = self.score(clips.reshape(-1, frames, *clips.shape[3:])).double().cpu().view(len(items), -1)
        for request, values in zip(requests, scores, strict=True):
            values = values[values.isfinite()]
            if not len(values):
                _log.warning("%s makes no statement on %s; it is left out.", self.name, request.video.path)
                continue
            stderr = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
            yield Annotation(*request.key, values.mean().item(), stderr)


class Laplacian(Teacher):
    """The one-line baseline: mean absolute Laplacian of the luma.

    It orders the levels of one content's blur or codec ladder nearly perfectly and knows nothing of quality
    across contents, which is why it stands in every table of results.
    """

    def __init__(
        self, segments: int = 4, window: int | None = 512, device: str | torch.device = "cpu"
    ) -> None:
        super().__init__("laplacian", Sampling(segments=segments, frames=1, window=window), device=device)

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), the mean over all pixels and frames."""
        y = luma(clips)
        inner = 4 * y[..., 1:-1, 1:-1]
        around = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
        return (inner - around).abs().mean(dim=(1, 2, 3))


class ScoresFile:
    """An annotator whose scores come from a file that some other tool wrote.

    A row belongs to a video by its whole path (relative ones from the file's folder, or as the end of the
    video's path), else by file name, else by file name without suffix. Distorted versions have no row and get
    no score.

    Args:
        path: CSV (with a header), JSON (a list of objects) or Parquet, with a column `path` or `name`, a
            column `score`, and optionally `stderr` in the score's unit.
        higher_is_better: False for distances such as NIQE or DMOS; the sign is turned here.
        name: under which the scores are stored; the file's stem by default.

    Raises:
        InputError: if the file is absent or not readable, a column is missing, a path comes twice, or a score
        is no
            finite number.
    """

    def __init__(self, path: str | PurePath, higher_is_better: bool = True, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name or re.sub(r"[^\w.+-]", "_", self.path.stem, flags=re.ASCII)
        self.higher_is_better = higher_is_better
        self._scores = _read_scores(self.path)

    @property
    def settings(self) -> Mapping[str, object]:
        """The sign and a hash of the rows: an edited file is another annotator, a moved one is the same."""
        rows = {key: [repr(value) for value in values] for key, values in self._scores.items()}
        return {"higher_is_better": self.higher_is_better, "rows": fingerprint_of("rows", rows)}

    @property
    def fingerprint(self) -> str:
        """Hash of name and settings."""
        return fingerprint_of(self.name, self.settings)

    def annotate(self, requests: Sequence[Request], workers: int = 0) -> Iterator[Annotation]:
        """Yield the score of each source among the requests.

        Raises:
            InputError: if a video has no row, several rows fit a video, or one row fits several videos.
        """
        sources = [request.video for request in requests if request.simulator is None]
        rows = self.match(sources)
        sign = 1 if self.higher_is_better else -1
        for video, row in zip(sources, rows, strict=True):
            score, stderr = self._scores[row]
            yield Annotation(video.video_id, None, 0, sign * score, stderr)

    def match(self, videos: Sequence[Video]) -> list[str]:
        """Return the row (its path as written in the file) of each video; raises as `annotate` does."""
        by_path = {PurePath(row).as_posix(): row for row in self._scores}
        by_path |= {(self.path.parent / row).resolve().as_posix(): row for row in self._scores}
        by_name, by_stem = defaultdict(list), defaultdict(list)
        for row in self._scores:
            by_name[PurePath(row).name].append(row)
            by_stem[PurePath(row).stem].append(row)

        matched: list[str] = []
        missing: list[Video] = []
        for video in videos:
            path = Path(video.path).resolve()
            tails = (PurePath(*path.parts[start:]).as_posix() for start in range(len(path.parts)))
            exact = next((by_path[tail] for tail in tails if tail in by_path), None)
            rows = [exact] if exact is not None else by_name.get(path.name) or by_stem.get(path.stem) or []
            if len(rows) > 1:
                raise InputError(
                    f"Scores file {self.path} has {len(rows)} rows that fit {video.path} ({rows[0]}, "
                    f"{rows[1]}); write whole paths in it."
                )
            if rows:
                matched.append(rows[0])
            else:
                missing.append(video)
        if missing:
            raise InputError(
                f"Scores file {self.path} has no score for {len(missing)} of {len(videos)} videos, the first "
                f"being {missing[0].path}; add their rows or take the videos out."
            )
        row, count = Counter(matched).most_common(1)[0] if matched else ("", 0)
        if count > 1:
            raise InputError(
                f"Row {row} of scores file {self.path} fits {count} videos of that name; write "
                "whole paths in it."
            )
        return matched


def _read_scores(path: Path) -> dict[str, tuple[float, float]]:
    rows = _read_rows(path)
    columns = list(rows[0]) if rows else []
    key = next((name for name in ("path", "name") if name in columns), None)
    if key is None or "score" not in columns:
        found = "the columns " + ", ".join(map(str, columns)) if columns else "no rows"
        raise InputError(f"Scores file {path} has {found}; it needs 'path' (or 'name') and 'score'.")
    scores: dict[str, tuple[float, float]] = {}
    for row in rows:
        video = str(row.get(key) or "").strip()
        if not video:
            raise InputError(
                f"Scores file {path} has a row without a {key}: {row}; fill it in or remove the row."
            )
        if video in scores:
            raise InputError(f"Scores file {path} names {video} twice; keep one row for each video.")
        score = _number(row.get("score"))
        stderr = _number(row.get("stderr")) if row.get("stderr") not in (None, "") else math.nan
        if not math.isfinite(score):
            raise InputError(
                f"Scores file {path} gives {video} the score {row.get('score')!r}; write a finite number or "
                "remove the row."
            )
        if stderr < 0 or math.isinf(stderr):
            raise InputError(
                f"Scores file {path} gives {video} the stderr {row['stderr']!r}; write a number from 0 up "
                "or leave it empty."
            )
        scores[video] = (score, stderr)
    return scores


def _read_rows(path: Path) -> list[dict[str, object]]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                return [dict(row) for row in csv.DictReader(file, skipinitialspace=True)]
        if suffix == ".json":
            rows = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
                return rows
            raise InputError(
                f'Scores file {path} is not a list of rows; write it as [{{"path": ..., "score": ...}}, ...].'
            )
        if suffix in (".parquet", ".pq"):
            return list(pq.read_table(path).to_pylist())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"Scores file {path} cannot be read ({reason}); give a CSV, JSON or Parquet file."
        ) from error
    raise InputError(f"Scores file {path} has the suffix {suffix!r}; give a .csv, .json or .parquet file.")


def _number(value: object) -> float:
    """Read a score that may be text; NaN for what is no number."""
    try:
        return float(str(value))
    except ValueError:
        return math.nan
