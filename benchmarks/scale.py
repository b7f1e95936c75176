"""What the host does at the paper's scale: ten million rows of scores, three million videos, 700 000 pairs.

    python benchmarks/scale.py [--rows 10000000] [--videos 3000000]

Scores, videos and answers are made up; everything else is the package's own code on one thread, as each
process of a run executes it. Every group of rows is one fresh process; seconds are of the CPU, which other
work on the machine does not change; memory is the process's highest during the step, imports included.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from experiment import arguments, table
from label_store import RANKS, fingerprints, in_fresh_process, video_ids
from rich.console import Console

from callbacks.rounds.scores import scores_of
from datamodules.batches import PairDataset
from datamodules.batches.clip_cache import ClipCache
from datamodules.corpus import assign_splits, build_corpus, videos
from datamodules.corpus.table import PROBE_VERSION, SCHEMA
from datamodules.files import FileCache
from datamodules.labels import (
    Annotation,
    Consensus,
    Labelling,
    LabelStore,
    Request,
    annotate_missing,
    fit_consensus,
)
from datamodules.labels.annotation import PART_ROWS, PART_SECONDS
from datamodules.labels.consensus import balance_of, cuts_for_balance
from datamodules.labels.teacher_weights import weigh_teachers
from datamodules.pairs import HardPairs, LaterRounds, PairCounts, read_pairs
from datamodules.pairs.hard.gmad import gmad_pairs
from datamodules.pairs.relabelling import relabelled
from datamodules.round_data import RoundDataModule
from datamodules.simulators import SIMULATORS
from datamodules.video import Clip, Sampling, Video

TEACHERS, STUDENTS = 5, 3
SPEED = {"teacher": 40.0, "student": 4.0}
"""Videos a second and process, assumed: how many scores a part holds when it is old enough to be written."""

HELD_OUT = 0.002
"""Share of the contents that select and report have each: thousands are enough for intervals."""

SIMULATOR = SIMULATORS["jpeg"]
"""Whose ladder every held-out video has."""

PAPER = PairCounts(synthetic=250_000, teacher=250_000)
LATER = {"synthetic": 0.06, "teacher": 0.34}
"""The paper: 500 000 pairs, then twice 15 000 + 85 000 more."""

KNOWN_FILES = 100_000
"""Files that are there, if empty; what they take is linear in their number."""

ITEMS = 2000
"""Pairs read from a table, at random places."""


StepRow = tuple[str, float, float, str, str]
"""What was done, CPU seconds, highest memory in MB, MB and files that it left."""


@dataclass
class Steps:
    """Rows of the table."""

    rows: list[StepRow] = field(default_factory=list)

    @contextmanager
    def timed(self, name: str, folder: str | None = None) -> Iterator[None]:
        """Add a row; with a folder, also what the folder holds in the end."""
        Path("/proc/self/clear_refs").write_text("5")  # forgets the highest resident memory
        began = time.process_time()
        yield
        seconds = time.process_time() - began
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        files = [] if folder is None else [path for path in Path(folder).rglob("*") if path.is_file()]
        size = f"{sum(path.stat().st_size for path in files) / 1e6:.0f}" if files else ""
        peak = int(status["VmHWM"].split()[0]) / 1000
        self.rows.append((name, seconds, peak, size, str(len(files)) if files else ""))

    def note(self, name: str, figure: str) -> None:
        """Add what a step found in place of its seconds."""
        self.rows.append((f"{name}: {figure}", np.nan, np.nan, "", ""))


def made_up_corpus(count: int) -> pa.Table:
    """Make a corpus of videos that are not there, before its splits are assigned."""
    ids = pa.array(video_ids(count))
    same: Mapping[str, object] = {
        "width": 1920,
        "height": 1080,
        "fps": 30.0,
        "duration": 8.0,
        "codec": "h264",
        "interlaced": False,
        "status": "ok",
        "error": "",
        "split": "",
    }
    columns = {
        name: pa.repeat(pa.scalar(value, SCHEMA.field(name).type), count) for name, value in same.items()
    }
    paths = pa.array([f"/data/pool/{name[:2]}/{name}.mp4" for name in ids.to_pylist()])
    return pa.table({**columns, "video_id": ids, "path": paths, "content": ids}).select(SCHEMA.names)


def split_corpus(corpus: pa.Table) -> pa.Table:
    """Return the corpus with few contents held out."""
    return assign_splits(corpus, (1 - 2 * HELD_OUT, HELD_OUT, HELD_OUT))


def ladders(held_out: Sequence[Video]) -> list[Request]:
    """Return all levels of one simulator on each video."""
    levels = range(1, len(SIMULATOR.levels) + 1)
    return [Request(video, SIMULATOR, level) for video in held_out for level in levels]


def all_requests(corpus: pa.Table) -> list[Request]:
    """Return the requests of every annotator."""
    asked = [Request(video) for video in videos(corpus)]
    return asked + ladders([*videos(corpus, "select"), *videos(corpus, "report")])


def annotators() -> list[tuple[int, str, str]]:
    """Return round, name and fingerprint: of teachers, of the baseline, and of each round's student."""
    prints = fingerprints(TEACHERS + 1 + STUDENTS)
    names = [(0, f"teacher{index}") for index in range(TEACHERS)] + [(0, "laplacian")]
    names += [(round, "student") for round in range(1, STUDENTS + 1)]
    return [(*name, fingerprint) for name, fingerprint in zip(names, prints, strict=True)]


def write_store(folder: str, count: int) -> list[StepRow]:
    """Write all scores as `annotate_missing` would: in the order of keys, dealt to ranks, in parts."""
    steps = Steps()
    with steps.timed("imports"):
        pass
    requests = all_requests(split_corpus(made_up_corpus(count)))
    keys = sorted((request.key for request in requests), key=lambda key: (key[0], key[1] or "", key[2]))
    place = {name: index for index, name in enumerate(sorted({name for name, _, _ in keys}))}
    rng = np.random.default_rng(0)
    truth = rng.normal(size=count)
    true = np.array([truth[place[name]] - 0.3 * level for name, _, level in keys])
    store = LabelStore(folder)
    with steps.timed(f"write {len(annotators()) * len(keys) / 1e6:.2f} M rows", folder):
        for round, name, fingerprint in annotators():
            scores = (true + rng.normal(size=len(keys))).tolist()
            rows = [Annotation(*key, score, 0.1) for key, score in zip(keys, scores, strict=True)]
            part = min(PART_ROWS, int(SPEED["student" if round else "teacher"] * PART_SECONDS))
            for rank in range(RANKS):
                share = rows[rank::RANKS]
                for start in range(0, len(share), part):
                    store.write(round, name, fingerprint, share[start : start + part], rank=rank)
    return steps.rows


def open_corpus(folder: str, count: int) -> list[StepRow]:
    """Do what each process does with a corpus whose files were all probed before."""
    steps = Steps()
    made_up = [Path(folder, f"{index:08d}.mp4") for index in range(count)]
    for path in made_up:
        path.touch()
    found = asdict(Video("", "", 1920, 1080, 30.0, 8.0, "h264"))
    cache = Path(folder, ".cache")
    store = FileCache(cache / "corpus.parquet", SCHEMA, PROBE_VERSION)
    store.rows(made_up, lambda path: {**found, "video_id": path.stem, "path": str(path)}, progress=False)
    with steps.timed(f"open a known corpus of {count} videos"):
        build_corpus(folder, cache=cache)
    return steps.rows


class Idle:
    """An annotator that has nothing left to do."""

    name, fingerprint = annotators()[0][1:]
    settings: Mapping[str, object] = {}

    def annotate(self, requests: Sequence[Request], workers: int) -> Iterator[Annotation]:
        """Expect no request.

        Raises:
            AssertionError: it is asked for something.
        """
        raise AssertionError(f"{len(requests)} scores are missing")


def use_store(folder: str, count: int) -> list[StepRow]:
    """Ask of the store what each process asks when a run begins and at the end of a round."""
    steps = Steps()
    store = LabelStore(folder)
    corpus = split_corpus(made_up_corpus(count))
    with steps.timed("list what every annotator is asked for"):
        requests = all_requests(corpus)
    with steps.timed("find what one teacher lacks: nothing, for one of 8 processes"):
        annotate_missing(Idle(), requests, store, 0, world_size=RANKS)
    del requests
    with steps.timed("read round 0, of 6 annotators"):
        table = store.read(round=0)
    prints = {name: fingerprint for round, name, fingerprint in annotators() if not round}
    del prints["laplacian"]
    with steps.timed("weigh the teachers"):
        weighed = weigh_teachers(table, prints, ladders(videos(corpus, "select")))
    train = [video.video_id for video in videos(corpus, "train")]
    weights = {row.fingerprint: row.weight for row in weighed}
    with steps.timed("fit the consensus of 5"):
        fitted = fit_consensus(table, train, list(weights), weights=weights)
    with steps.timed("its mean and variance"):
        mean, variance = fitted.scores(train)
    with steps.timed("each teacher by itself"):
        for fingerprint in weights:
            fit_consensus(table, train, [fingerprint]).scores(train)
    with steps.timed("scores of 6 annotators as dictionaries, for the report"):
        kept = [scores_of(table, fingerprint) for *_, fingerprint in annotators()[: TEACHERS + 1]]
    del kept, table
    with steps.timed("a later round: read the student, scale it, fit its cuts"):
        _, _, fingerprint = annotators()[-1]
        own = store.read(round=STUDENTS, fingerprint=fingerprint)
        score, error = fit_consensus(own, train, [fingerprint]).scores(train)
        cuts_for_balance(
            Consensus(tuple(train), score, error), balance_of(Consensus(tuple(train), mean, variance))
        )
    return steps.rows


class OneClip(ClipCache):
    """A cache that has every clip, the same for all."""

    def __init__(self) -> None:
        super().__init__(0)
        self.clip = Clip(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1))

    def read(self, video: Video, sampling: Sampling, draw: int) -> Clip:
        """Return the one clip."""
        return self.clip


def opinions(ids: Sequence[str]) -> Callable[[], Consensus]:
    """Return a function that makes annotators who share a truth."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=len(ids))
    return lambda: Consensus(tuple(ids), truth + rng.normal(size=len(ids)), rng.uniform(0.3, 0.7, len(ids)))


def draw_rounds(folder: str, count: int, counts: PairCounts = PAPER) -> list[StepRow]:
    """Draw three rounds of the paper's growth over a corpus, and read their pairs."""
    later = LaterRounds(LATER, True, HardPairs(share=1.0))
    total = [counts.total(round, later) for round in range(3)]
    disputed = counts.drawn("teacher", 1, later)
    steps = Steps()
    corpus = made_up_corpus(count)
    with steps.timed(f"assign {count / 1e6:.1f} M videos to splits"):
        corpus = split_corpus(corpus)
    with steps.timed("write the corpus table", folder):
        pq.write_table(corpus, Path(folder, "corpus.parquet"))
    with steps.timed("the train split as a list"):
        ids = [video.video_id for video in videos(corpus, "train")]
    data = RoundDataModule("made up", counts=counts, later=later)
    data.corpus = corpus
    another = opinions(ids)
    consensus, student, *defenders = (another() for _ in range(2 + TEACHERS + 1))
    pairs_folder = Path(folder, "pairs")
    pairs_folder.mkdir()
    with steps.timed(f"round 0: draw {total[0]} pairs"):
        data.begin_round(0, consensus)
    with steps.timed(f"gMAD of two annotators: {disputed} pairs"):
        gmad_pairs(student.score, defenders[0].score, disputed)
    with steps.timed("the same within a tenth of a deviation"):
        gmad_pairs(student.score, defenders[0].score, disputed, gap=0.1)
    for round in (1, 2):
        answers = torch.randn(len(data.round_pairs), 3) + 0.5
        new = total[round] - total[round - 1]
        with steps.timed(f"round {round}: {total[round]} pairs, of which {new} hard by gMAD, 6 defenders"):
            data.begin_round(round, student, student=student, defenders=defenders, answers=answers)
    table = data.round_pairs
    with steps.timed(f"write {len(table)} pairs", str(pairs_folder)):
        pq.write_table(table, pairs_folder / "round-2.parquet")
    steps.note("their table in memory", f"{table.nbytes / 1e6:.0f} MB, hard {np.mean(table['hard']):.1%}")
    with steps.timed("label all of them anew"):
        relabelled(table, student, Labelling())
    with steps.timed("read them back and check them"):
        table = read_pairs(pairs_folder / "round-2.parquet", data.ladder)
    with steps.timed("the videos by id, for a loader"):
        known = {video.video_id: video for video in videos(corpus)}
    for size in (len(table) // 100, len(table) // 10, len(table)):
        dataset = PairDataset(table.slice(0, size), known, Sampling(frames=1), data.simulators, OneClip())
        places = np.random.default_rng(0).integers(size, size=ITEMS).tolist()
        began = time.process_time()
        for place in places:
            dataset[place]
        each = (time.process_time() - began) / ITEMS
        steps.note(f"one pair of {size}, but for its clips", f"{1e6 * each:.0f} µs")
    return steps.rows


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the label store")
    parser.add_argument("--videos", type=int, default=3_000_000, help="that pairs are drawn from")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    a_video = len(annotators()) * (1 + 2 * HELD_OUT * len(SIMULATOR.levels))
    annotated = int(given.rows / a_video)
    report = table(
        f"{annotated} videos scored by {len(annotators())} annotators; pairs of {given.videos} videos",
        ["step"],
        ("CPU seconds", "memory, MB", "MB on disk", "files"),
    )
    with (
        tempfile.TemporaryDirectory() as store,
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as files,
    ):
        groups = (
            in_fresh_process(write_store, store, annotated),
            in_fresh_process(use_store, store, annotated),
            in_fresh_process(open_corpus, files, KNOWN_FILES),
            in_fresh_process(draw_rounds, folder, given.videos),
        )
    for group in groups:
        for name, seconds, peak, size, files in group:
            cells = ("", "") if np.isnan(seconds) else (f"{seconds:.1f}", f"{peak:.0f}")
            report.add_row(name, *cells, size, files)
        report.add_section()
    Console(width=120).print(report)


if __name__ == "__main__":
    main()
