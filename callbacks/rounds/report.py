"""What a run tells of its rounds: the CSV files, tables in the terminal, figures for loggers, warnings."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch import Trainer
from lightning_utilities.core.rank_zero import rank_zero_warn
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from callbacks.rounds.judging import JudgedPairs, Verdict, label_entropy, score_spread, signs_of_collapse
from callbacks.rounds.labels import StudentScores
from callbacks.rounds.requests import ids
from callbacks.rounds.rows import RoundRow, TeacherRow, pair_counts, write_rows
from callbacks.rounds.scores import DIFFERENCES, Scores, mos_correlations, rank_correlations, truth_intervals
from datamodules.labels import Consensus
from datamodules.pairs.relabelling import flipped
from datamodules.procedural import read_truth
from datamodules.round_data import RoundDataModule


def round_row(
    data: RoundDataModule,
    student: StudentScores,
    judged: JudgedPairs,
    verdict: Verdict,
    after: Consensus,
    scores: Mapping[str, Scores],
    seconds: tuple[float, float],
) -> RoundRow:
    """Return the row of the round that ends.

    Args:
        data: in that round.
        student: what its student says.
        judged: what its student says of the report split's pairs.
        verdict: whether its student is believed.
        after: who labels the next round's pairs of different videos.
        scores: annotator -> scores of the report split, the student's first.
        seconds: that the round took, and of these those in which annotators scored.
    """
    report, truth = data.split("report"), None
    if data.embedded is not None:
        of_files = read_truth(data.embedded)
        truth = {video.video_id: of_files[Path(video.path).name] for video in report}
    people = {"mos": mos_correlations(scores, data.report_mos)} if data.report_mos else {}
    own = student.consensus.restrict(ids(data, "train"))
    teachers = [teacher.name for teacher in data.teachers]
    return RoundRow(
        round=data.round,
        pairs=pair_counts(data.round_pairs, human=bool(people)),
        rank_accuracy=judged.accuracy["rank_accuracy"],
        level_accuracy=judged.accuracy["level_accuracy"],
        flipped=flipped(data.round_pairs, after, data.labelling),
        seconds=seconds[0],
        srcc=rank_correlations(scores, report, data.identity_ladder, truth) | people,
        probe=(verdict.agreement.value, *verdict.agreement.interval),
        probe_across=(verdict.across.value, *verdict.across.interval) if verdict.across.comparisons else None,
        verdict="kept" if verdict.kept else "rejected",
        label_entropy=label_entropy(own),
        score_spread=score_spread(own),
        annotation_seconds=seconds[1],
        truth={} if truth is None else truth_intervals(scores, report, truth, teachers),
    )


def warn(rows: Sequence[RoundRow], verdict: Verdict, *, kept_before: bool) -> None:
    """Warn of a last round that is rejected, or whose student tells videos apart less and less."""
    told = []
    if not verdict.kept:
        back = "the weights of the last that was kept are put back"
        back = back if kept_before else "no round was kept before"
        told.append(f" is rejected: {verdict.reason}; the labels stay as they were, and {back}.")
    for sentence in [*told, *(f": {sign}" for sign in signs_of_collapse(rows))]:
        rank_zero_warn(f"round {rows[-1].round}{sentence}")


def publish(
    trainer: Trainer,
    folder: Path,
    rounds: Sequence[RoundRow],
    teachers: Sequence[TeacherRow],
    accuracy: Mapping[str, float],
) -> None:
    """Write, print and log the rounds so far; the first process does.

    Args:
        trainer: with the loggers.
        folder: of the run.
        rounds: all rounds so far.
        teachers: who annotated the first round.
        accuracy: of the report split's pairs in the last round, by simulator too.
    """
    if trainer.is_global_zero:
        write_rows(folder / "rounds.csv", rounds)
        write_rows(folder / "teachers.csv", teachers)
        print_rounds(rounds, [row.teacher for row in teachers])
        if rounds[-1].truth:
            print_truth(rounds[-1])
    columns = rounds[-1].columns()
    figures = {f"round/{name}": value for name, value in columns.items() if isinstance(value, (int, float))}
    for logged_otherwise in ("round/round", "round/probe"):
        del figures[logged_otherwise]
    figures |= {f"report/{name}": value for name, value in accuracy.items()}
    for logger in trainer.loggers:
        logger.log_metrics(figures, step=trainer.global_step)


def print_teachers(rows: Sequence[TeacherRow]) -> None:
    """Print the teachers as one table that fits 80 columns."""
    table = Table(title="Teachers (select split)", title_justify="left")
    for column in ("teacher", "agreement", "95 %", "with", "weight", "verdict"):
        table.add_column(column, justify="left" if column in ("teacher", "with", "verdict") else "right")
    for row in rows:
        between = f"{row.low:+.2f}..{row.high:+.2f}"
        numbers = (f"{row.agreement:+.2f}", between, row.judged_by, f"{row.weight:.2f}")
        table.add_row(row.teacher, *numbers, row.verdict)
    noise = any(row.verdict == "noise" for row in rows)
    _print(
        table,
        "with order: Kendall's tau with known severities; with teachers: correlation"
        + ("; noise: it may be chance, for the interval holds 0" if noise else ""),
    )


def print_rounds(rows: Sequence[RoundRow], teachers: Sequence[str]) -> None:
    """Print the rounds so far as one table that fits 80 columns."""
    table = Table(title="Rounds (report split)", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    has_truth = rows[0].srcc["truth"]["student"] is not None
    has_people = "mos" in rows[0].srcc
    has_scale = rows[0].probe_across is not None
    columns = ["round", "pairs", "rank acc.", "probe", *(["across"] if has_scale else []), "flipped"]
    columns += [*(f"~{name}" for name in teachers)]
    columns += [*(["MOS"] if has_people else []), *(["truth"] if has_truth else []), "s"]
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        probe = _shown(row.probe[0], ".3f") + ("" if row.verdict == "kept" else "!")
        cells = [str(row.round), str(sum(row.pairs.values())), _shown(row.rank_accuracy, ".3f"), probe]
        cells += [_shown(row.probe_across[0])] if row.probe_across is not None else []
        cells += [_shown(row.flipped, ".0%"), *(_shown(row.srcc["teacher"][name]) for name in teachers)]
        cells += [_shown(row.srcc["mos"]["student"])] if has_people else []
        cells += [_shown(row.srcc["truth"]["student"])] if has_truth else []
        table.add_row(*cells, f"{row.seconds:.0f}")
    last = rows[-1]
    counts = ", ".join(f"{count} {source}" for source, count in last.pairs.items() if count)
    share = last.annotation_seconds / last.seconds
    rejected = "; !: the round is rejected" if any(row.verdict != "kept" for row in rows) else ""
    scale = "; across: SRCC with the metric" if has_scale else ""
    people = "; MOS: with people's opinions" if has_people else ""
    hidden = "; truth: with the hidden truth" if has_truth else ""
    _print(
        table,
        f"pairs of round {last.round}: {counts}; {share:.0%} of its time to annotate\n"
        f"probe: Kendall's tau with known orders, select split{scale}{rejected}\n"
        f"~NAME: SRCC with a teacher{people}{hidden}",
    )


def print_truth(row: RoundRow) -> None:
    """Print how the annotators of a round rank with the hidden truth, each figure with its interval."""
    table = Table(
        title=f"Hidden truth (report split, round {row.round})", title_justify="left", box=SIMPLE_HEAD
    )
    for column in ("annotator", "SRCC", "95 %"):
        table.add_column(column, justify="left" if column == "annotator" else "right")
    words = dict(zip(DIFFERENCES, ("student less best teacher", "student less ensemble"), strict=True))
    for name, (value, low, high) in row.truth.items():
        table.add_row(words.get(name, name), _shown(value), f"{_shown(low)}..{_shown(high)}")
    _print(table, "with VMAF to the clean render; intervals over contents")


def _print(table: Table, caption: str) -> None:
    table.caption, table.caption_justify = caption, "left"
    Console().print(table)


def _shown(value: float | None, form: str = "+.2f") -> str:
    return "-" if value is None or math.isnan(value) else f"{value:{form}}"
