"""`predict --engine ray`: from the command line's settings to parts of scores, and to what follows from them.

The rows come back to this process, which writes them: they are small beside the clips, one writer can neither
lose a row nor write it twice, and the output may lie where no worker can write.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.scores.columns import Columns
from callbacks.scores.gate import Gate, GateClosed
from callbacks.scores.pooling import pooled_rows
from callbacks.scores.report import FEW, print_scores, require_one, write_page
from callbacks.scores.rows import SUFFIXES, Row, checked_page, claim_output
from callbacks.scores.table import SCHEMA, SECONDS_SCHEMA
from datamodules.corpus.places import list_paths
from datamodules.errors import InputError
from datamodules.names import is_url
from datamodules.processes import END
from vqa_lightning.ray.parts import VideoParts
from vqa_lightning.ray.pipeline import Stages, require_ray
from vqa_lightning.ray.sent_model import SentModel
from vqa_lightning.training import RankingModule

if TYPE_CHECKING:
    from ray.data import Dataset

BLOCK = 64
"""Paths that a task reads at most. A killed worker then loses little, and a list of millions does not make
millions of tasks."""


@dataclass(frozen=True)
class RayPrediction:
    """What `predict --engine ray` is told.

    Args:
        output: folder of the parts, or a URL.
        columns: beyond those of every file of scores.
        gate: what the scores must hold.
        report: HTML page to write, too; None: none.
        progress: whether Ray shows how far it is.

    Raises:
        InputError: Ray is not installed, or the output is a file.
    """

    output: str
    columns: Columns = field(default_factory=Columns)
    gate: Gate = field(default_factory=Gate)
    report: str | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        """Check what can be checked before anything is listed."""
        require_ray()
        if Path(self.output).suffix in SUFFIXES or (not is_url(self.output) and Path(self.output).is_file()):
            raise InputError(
                f"--output {self.output} must be a folder with --engine ray: its parts are Parquet files."
            )
        if self.report is not None:
            checked_page(self.report)
        self.gate.check_output(Path(self.output))

    def run(
        self, videos: str, checkpoint: Path, stages: Stages, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Score the videos that have no score yet, and say how it went.

        Args:
            videos: folder, file, glob or manifest, local or a URL.
            checkpoint: a .ckpt that fit wrote.
            stages: how the work is laid over the cluster.
            settings: of the model, in the place of those that the checkpoint remembers.

        Raises:
            InputError: the videos, the checkpoint or the output are not as they must be, or not one video
                could be scored.
            GateClosed: the scores do not hold what the gate asks for.
        """
        over_time = stages.score_every is not None
        self.columns.check(self.gate, over_time=over_time)
        wanted = pc.unique(pa.array(list_paths(videos), pa.string()))
        sent, module = SentModel.pack(checkpoint, settings)
        self.columns.check_model(sent.name)
        self.gate.check_baseline(sent.name, self.columns.pool)
        parts = VideoParts(
            self.output,
            pa.schema([*SCHEMA, *self.columns.fields(over_time=over_time)]),
            SECONDS_SCHEMA if over_time else None,
            {
                "model": sent.name,
                "data.score_every": stages.score_every,
                "pool": self.columns.pool,
                "calibration": self.columns.human_scale and f"{self.columns.human_scale.curve}",
            },
        )
        if not is_url(self.output):
            claim_output(Path(self.output))
        END.whole = lambda: f"every part so far is kept in {self.output}"
        parts.resume()
        strange = parts.done.filter(pc.invert(pc.is_in(parts.done, value_set=wanted)))
        if len(strange):
            raise InputError(
                f"{self.output} has rows that this command would not write again, such as that of "
                f"{strange[0]}: name another --output, or delete the folder."
            )
        left = wanted.filter(pc.invert(pc.is_in(wanted, value_set=parts.done)))
        if len(left):
            self._score(left, sent, stages, Writing(parts, self.columns, module))
        self._tell(parts, wanted)

    def _score(self, paths: pa.Array, sent: SentModel, stages: Stages, writing: "Writing") -> None:
        with connected(progress=self.progress) as cores:
            scored = stages.apply(in_blocks(paths, cores), sent, counted=True)
            try:
                for block in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
                    writing.take(block.to_pylist())
            finally:
                writing.flush()  # also on Ctrl-C

    def _tell(self, parts: VideoParts, wanted: pa.Array) -> None:
        status = parts.videos.rows(["status"])["status"]
        good = pc.sum(pc.equal(status, "ok")).as_py() or 0
        summary = f"{self.output}: {good} videos scored, {len(status) - good} unreadable"
        judged = self.gate.asked or self.gate.junit is not None
        if good and len(status) > FEW and self.report is None and not judged:
            rank_zero_info(summary)  # without the rows, for there may be millions
            return
        rows, intervals = (
            parts.videos.rows(),
            [] if parts.seconds is None else parts.seconds.rows().to_pylist(),
        )
        rows = rows.take(pc.sort_indices(pc.index_in(rows["path"], value_set=wanted))).to_pylist()
        pools = pooled_rows(intervals)  # for the errors of the pools, which are no columns
        rows = [{**pools.get(row["path"], {}), **row} for row in rows]
        print_scores(rows)
        rank_zero_info(summary)
        if self.report is not None:
            rank_zero_info(write_page(Path(self.report), rows, intervals, self.output))
        if self.gate.asked and len(rows) < len(wanted):
            raise GateClosed(f"only {len(rows)} of {len(wanted)} videos are scored: nothing has passed")
        self.gate.check(rows)
        require_one(rows)


@dataclass
class Writing:
    """Rows on their way to the parts: a video goes there when all its intervals have come.

    Args:
        parts: where the rows go.
        columns: beyond those of every file of scores.
        module: that scores.
    """

    parts: VideoParts
    columns: Columns
    module: RankingModule
    held: dict[str, list[Row]] = field(default_factory=dict, init=False)
    videos: list[Row] = field(default_factory=list, init=False)
    intervals: list[Row] = field(default_factory=list, init=False)

    def take(self, rows: Sequence[Row]) -> None:
        """Take rows of requests in any order; write a part that is full or old."""
        for row in rows:
            path = str(row["path"])
            own = self.held.setdefault(path, [])
            own.append(row)
            if len(own) == row["requests"]:
                self._finish(self.held.pop(path))
        if self.parts.due(self.videos):
            self.flush()

    def _finish(self, rows: Sequence[Row]) -> None:
        for row in sorted(rows, key=lambda row: row["start"] or 0.0):
            (self.videos if row["start"] is None else self.intervals).append(row)

    def flush(self) -> None:
        """Write the whole videos that have come since the last part."""
        videos, intervals = self.videos, self.intervals
        self.videos, self.intervals = [], []
        if videos:
            rows = self.columns.complete(videos, self.module, pooled_rows(intervals))
            self.parts.write(rows, intervals)


def in_blocks(paths: pa.Array, cores: int) -> "Dataset":
    """Return a dataset with the column `path`, in blocks that keep so many cores busy."""
    import ray

    size = max(1, min(BLOCK, ceil(len(paths) / (4 * cores))))
    table = pa.table({"path": paths})
    return ray.data.from_arrow([table.slice(start, size) for start in range(0, len(paths), size)])


@contextmanager
def connected(*, progress: bool) -> Iterator[int]:
    """Connect to the cluster of RAY_ADDRESS, or begin one here and end it; give the number of its cores.

    A process that is connected already stays so.
    """
    import ray

    mine = not ray.is_initialized()
    if mine:
        environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local cluster tells nobody of itself
        ray.init(log_to_driver=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.enable_rich_progress_bars = progress
    context.use_ray_tqdm = False  # it comes with the workers' logs, which are not shown
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # its plans are wider than a terminal
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        if mine:
            ray.shutdown()
