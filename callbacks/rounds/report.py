"""A round's report: rank correlations on the report split, `rounds.csv`, a table in the terminal."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lightning.pytorch import Trainer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from datamodules.files import written_whole
from datamodules.labels import FittedConsensus, Key
from datamodules.labels.fitted_consensus import whole_clips
from datamodules.labels.teacher_weights import TeacherWeight
from datamodules.video import Video
from vqa_lightning.metrics import srcc

Scores = dict[Key, float]
"""(video_id, simulator, level) -> score, the source being (video_id, None, 0)."""


def scores_of(table: pa.Table, fingerprint: str, video_ids: Sequence[str] | None = None) -> Scores:
    """The whole-clip scores that one annotator gave to these videos, or to all, and their versions."""
    own = whole_clips(table, fingerprint)
    if video_ids is not None:
        own = own.filter(pc.is_in(own["video_id"], pa.array(video_ids, pa.string())))
    keys = zip(*(own[name].to_pylist() for name in ("video_id", "simulator", "level")), strict=True)
    return dict(zip(keys, own["score"].to_pylist(), strict=True))


def ensemble_scores(fitted: FittedConsensus, keys: Sequence[Key]) -> Scores:
    """The weighted mean of the teachers on their common scale, for versions that any of them scored."""
    scores: Scores = {}
    for simulator, level in dict.fromkeys((simulator, level) for _, simulator, level in keys):
        ids = [name for name, *version in keys if version == [simulator, level]]
        mean, _ = fitted.scores(ids, simulator, level)
        scores |= {
            (name, simulator, level): float(m) for name, m in zip(ids, mean, strict=True) if np.isfinite(m)
        }
    return scores


def teacher_rows(teachers: Sequence[TeacherWeight], equal: bool) -> list[dict[str, Any]]:
    """What was found of the teachers, and the weight that each has in the consensus.

    Args:
        teachers: of `weigh_teachers`.
        equal: whether all have the same weight, whatever was found.
    """
    return [
        {
            "teacher": row.name,
            "fingerprint": row.fingerprint,
            "agreement": row.agreement.value,
            "low": row.agreement.interval[0],
            "high": row.agreement.interval[1],
            "with": "order" if row.by_order else "teachers",
            "weight": 1 / len(teachers) if equal else row.weight,
            "verdict": row.verdict,
        }
        for row in teachers
    ]


def print_teachers(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints `teacher_rows` as one table that fits 80 columns."""
    table = Table(title="Teachers (select split)", title_justify="left")
    for column in ("teacher", "agreement", "95 %", "with", "weight", "verdict"):
        table.add_column(column, justify="left" if column in ("teacher", "with", "verdict") else "right")
    for row in rows:
        between = f"{row['low']:+.2f}..{row['high']:+.2f}"
        numbers = (f"{row['agreement']:+.2f}", between, row["with"], f"{row['weight']:.2f}")
        table.add_row(row["teacher"], *numbers, row["verdict"])
    table.caption = "with order: Kendall's tau with known severities; with teachers: correlation"
    if any(row["verdict"] == "noise" for row in rows):
        table.caption += "; noise: it may be chance, for the interval holds 0"
    table.caption_justify = "left"
    Console().print(table)


def pair_counts(pairs: pa.Table) -> dict[str, int]:
    """Number of pairs by source, hard ones counted apart."""
    easy = pc.invert(pairs["hard"])
    counts = {
        f"pairs_{source}": pc.sum(pc.and_(easy, pc.equal(pairs["source"], source))).as_py() or 0
        for source in ("synthetic", "teacher", "reference")
    }
    return {**counts, "pairs_hard": pc.sum(pairs["hard"]).as_py() or 0}


def rank_correlations(
    scores: Mapping[str, Scores],
    videos: Sequence[Video],
    ladder: Mapping[str, int],
    truth: Mapping[str, float] | None,
) -> dict[str, float | str]:
    """SRCC of each annotator: across contents, within content, and of the student with the others.

    Args:
        scores: annotator -> scores; the first is the student.
        videos: the report split.
        ladder: simulator -> number of levels.
        truth: content -> hidden quality, where there is one.

    Returns:
        `truth_srcc_NAME` against the truth across contents (empty without one), `severity_srcc_NAME` against
        severity within content, the mean over the ladders that were scored, and `teacher_srcc_NAME` of the
        student with NAME.
    """
    row: dict[str, float | str] = {}
    known = [video for video in videos if all((video.video_id, None, 0) in own for own in scores.values())]
    across = {
        name: np.array([own[video.video_id, None, 0] for video in known]) for name, own in scores.items()
    }
    for name in scores:
        hidden = None if truth is None else np.array([truth[video.content] for video in known])
        row[f"truth_srcc_{name}"] = "" if hidden is None else srcc(across[name], hidden)
    for name, own in scores.items():
        within = np.array([severity_srcc(own, video, ladder) for video in videos])
        scored = within[np.isfinite(within)]
        row[f"severity_srcc_{name}"] = float(scored.mean()) if len(scored) else math.nan
    student, *others = scores
    for name in others:
        row[f"teacher_srcc_{name}"] = srcc(across[student], across[name])
    return row


def human_figures(
    pairs: pa.Table, scores: Mapping[str, Scores], lists: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """What a round learns from people, and how each annotator agrees with them on the report split.

    Args:
        pairs: of the round.
        scores: annotator -> scores.
        lists: video_id -> MOS of the report split, for each list that the round draws from.

    Returns:
        `pairs_human`, and `mos_srcc_NAME`: SRCC with the MOS, the mean over the lists weighted by their
        number of videos as in METHOD section 7, nan where none has two. Nothing without a list.
    """
    if not lists:
        return {}
    row: dict[str, float] = {"pairs_human": pc.sum(pc.equal(pairs["source"], "human")).as_py()}
    for name, own in scores.items():
        known = [[video for video in mos if (video, None, 0) in own] for mos in lists]
        found = np.array([
            srcc([own[video, None, 0] for video in videos], [mos[video] for video in videos])
            for mos, videos in zip(lists, known, strict=True)
        ])  # fmt: skip
        weight = np.where(np.isfinite(found), [len(videos) for videos in known], 0)
        row[f"mos_srcc_{name}"] = (
            float(np.nan_to_num(found) @ weight / weight.sum()) if weight.any() else math.nan
        )
    return row


def severity_srcc(own: Scores, video: Video, ladder: Mapping[str, int]) -> float:
    """Mean SRCC of a video's scores with falling severity over its scored ladders; nan without one."""
    found = []
    for simulator, levels in ladder.items():
        keys: list[Key] = [(video.video_id, None, 0)]
        keys += [(video.video_id, simulator, level + 1) for level in range(levels)]
        if all(key in own for key in keys):
            found.append(srcc(np.array([own[key] for key in keys]), -np.arange(levels + 1.0)))
    return float(np.mean(found)) if found else math.nan


def publish(
    trainer: Trainer,
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    teachers: Sequence[Mapping[str, Any]],
    accuracy: Mapping[str, float],
) -> None:
    """Writes, prints and logs the rounds so far; the first process does.

    Args:
        trainer: with the loggers.
        folder: of the run.
        rows: of `rounds.csv`.
        teachers: `teacher_rows`.
        accuracy: of the report split's pairs in the last round, by simulator too.
    """
    if trainer.is_global_zero:
        write_report(folder / "rounds.csv", rows)
        write_report(folder / "teachers.csv", teachers)
        print_report(rows, [row["teacher"] for row in teachers])
    figures = {f"round/{name}": value for name, value in rows[-1].items() if isinstance(value, (int, float))}
    for logged_otherwise in ("round/round", "round/probe"):
        del figures[logged_otherwise]
    figures |= {f"report/{name}": value for name, value in accuracy.items()}
    for logger in trainer.loggers:
        logger.log_metrics(figures, step=trainer.global_step)


def write_report(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a CSV of the run folder."""
    with written_whole(file) as hidden, hidden.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(name, value) for name, value in row.items()} for row in rows)


def _cell(name: str, value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.1f}" if name.endswith("seconds") else f"{value:.6f}"


def _shown(value: float, form: str = "+.2f") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"


def print_report(rows: Sequence[Mapping[str, Any]], teachers: Sequence[str]) -> None:
    """Prints the rounds so far as one table that fits 80 columns."""
    table = Table(title="Rounds (report split)", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    has_truth = rows[0]["truth_srcc_student"] != ""
    has_people = "pairs_human" in rows[0]
    columns = ["round", "pairs", "rank acc.", "probe", "flipped", *(f"~{name}" for name in teachers)]
    columns += [*(["MOS"] if has_people else []), *(["truth"] if has_truth else []), "s"]
    for column in columns:
        table.add_column(column, justify="right")
    sources = [name.removeprefix("pairs_") for name in rows[0] if name.startswith("pairs_")]
    for row in rows:
        total = sum(row[f"pairs_{source}"] for source in sources)
        probe = _shown(row["probe"], ".3f") + ("" if row["verdict"] == "kept" else "!")
        cells = [str(row["round"]), str(total), _shown(row["rank_accuracy"], ".3f"), probe]
        cells += [_shown(row["flipped"], ".0%"), *(_shown(row[f"teacher_srcc_{name}"]) for name in teachers)]
        cells += [_shown(row["mos_srcc_student"])] if has_people else []
        cells += [_shown(row["truth_srcc_student"])] if has_truth else []
        table.add_row(*cells, f"{row['seconds']:.0f}")
    last = rows[-1]
    counts = ", ".join(f"{last[f'pairs_{one}']} {one}" for one in sources if last[f"pairs_{one}"])
    share = last["annotation_seconds"] / last["seconds"]
    rejected = "; !: the round is rejected" if any(row["verdict"] != "kept" for row in rows) else ""
    people = "; MOS: with people's opinions" if has_people else ""
    hidden = "; truth: with the hidden truth" if has_truth else ""
    lines = (
        f"pairs of round {last['round']}: {counts}; {share:.0%} of its time to annotate",
        f"probe: Kendall's tau with known orders, select split{rejected}",
        f"~NAME: SRCC with a teacher{people}{hidden}",
    )
    table.caption, table.caption_justify = "\n".join(lines), "left"
    Console().print(table)
