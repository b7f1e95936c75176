"""The columns of a file of scores beyond those that every file has, the same whichever engine scored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from callbacks.scores.gate import Gate
from callbacks.scores.pooling import POOLS, Pool, pooled_row
from callbacks.scores.rows import Row
from datamodules.errors import InputError
from vqa_lightning.metrics.human_scale import HumanScale
from vqa_lightning.training import RankingModule


@dataclass
class Columns:
    """What is written of a video beside its score.

    Args:
        pool: which of the columns over time stands under `score`; the score of the whole video then stands
            under `whole`. None: that score itself.
        calibration: file of a saved HumanScale, which adds the column `calibrated`.

    Raises:
        InputError: the calibration cannot be read.
    """

    pool: Pool | None = None
    calibration: str | None = None

    def __post_init__(self) -> None:
        """Read the calibration, before anything is scored."""
        self.human_scale = None if self.calibration is None else HumanScale.load(self.calibration)

    def check(self, gate: Gate, *, over_time: bool) -> None:
        """Refuse a pool or a limit that needs scores over time where there are none.

        Raises:
            InputError: there are none.
        """
        limits = [limit.column for limit in gate.limits if limit.column in POOLS]
        if not over_time and (self.pool or limits):
            asked = f"--pool {self.pool}" if self.pool else f"--fail-below {limits[0]}:"
            raise InputError(f"{asked} needs scores over time: give --data.score_every SECONDS.")

    def check_model(self, model: str) -> None:
        """Refuse a calibration of another model.

        Args:
            model: name and hash.

        Raises:
            InputError: the calibration was fitted for another.
        """
        if self.human_scale is not None and self.human_scale.model != model:
            raise InputError(
                f"--calibration {self.calibration} was fitted for {self.human_scale.model}, not for "
                f"{model}: fit one on this model's scores."
            )

    def fields(self, *, over_time: bool) -> list[pa.Field]:
        """Return the columns, in order."""
        names = ["percentile", *(POOLS if over_time else ())]
        names += ["whole", "whole_stderr"] if self.pool is not None else []
        names += ["calibrated"] if self.human_scale is not None else []
        return [pa.field(name, pa.float64()) for name in names]

    def complete(
        self, rows: Sequence[Row], module: RankingModule, over_time: Mapping[str, Mapping[str, float]]
    ) -> list[Row]:
        """Return the rows of whole videos with the cells of these columns.

        Args:
            rows: of whole videos.
            module: that scored.
            over_time: path -> what `pooled_rows` says of the video; empty where no intervals were scored.
        """
        rows = [{**row, **over_time.get(str(row["path"]), {})} for row in rows]
        if self.pool is not None:
            rows = [pooled_row(row, self.pool) for row in rows]
        raw = np.array([row["score"] for row in rows], dtype=float)
        columns = {"percentile": module.percentiles(raw)}
        if self.human_scale is not None:
            columns["calibrated"] = self.human_scale(raw)
        for name, values in columns.items():
            cells = [None if math.isnan(value) else value for value in values.tolist()]
            rows = [{**row, name: cell} for row, cell in zip(rows, cells, strict=True)]
        return rows
