"""Does the score order what everybody can see: encodes of one clip, and two pairs of known order?

    python benchmarks/known_order.py [--ckpt_path runs/round/version_0/checkpoints/last.ckpt] [--jobs 2]

The contents of `--videos` are dealt into folds. The student of a fold is `fit --config round.yaml` on the
other folds' contents with `--pairs` a round. Its pairs are labelled by distortions of the device, and its
standard errors are scaled by AV1: of the codecs below it knows nothing. `--ckpt_path` adds a checkpoint that
was trained elsewhere. NIQE is fitted to what the fold's student learnt from.

The middle `--seconds` of each video are encoded as files by x264, x265 and VP9 at five CRFs each, and the
files are scored as `predict` scores them. The script prints for each codec

- adjacent, all: the share of pairs of neighbouring rungs, and of all rungs, of one ladder whose milder one
  scores higher; a tie counts half. Pairs that hardly differ, whose XPSNR to the source falls by less than
  `LEAST_FALL`, are left out and counted;
- SRCC: Spearman's correlation of score and falling CRF over all rungs, the mean over the ladders; one whose
  scores are all equal counts 0.

Intervals are 95 % of a bootstrap over contents. Then come the two pairs of known order, the whole files, with
P(the better one scores higher) by the published standard errors where there are some. Students, ladders and
scores are kept under `--root`: an interrupted run goes on, and a finished one prints in a minute.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from ablation import write_folds
from ablation_student import CONFIG
from crf_ladders import CODECS, Ladder, encode_ladders
from experiment import arguments, fit, table, with_interval
from rich.console import Console
from rich.table import Table
from scipy.special import ndtr

from datamodules.corpus import build_corpus, videos
from datamodules.labels import LabelStore, Request, annotate_missing
from datamodules.teachers import Laplacian, Teacher
from datamodules.teachers.artefacts import Artefacts
from datamodules.teachers.ffmpeg_filters import FFmpegDetector
from datamodules.teachers.natural_scenes.niqe import NIQE
from datamodules.teachers.siti import SITI
from datamodules.video import Video
from vqa_lightning.annotators.checkpoint_teacher import Checkpoint
from vqa_lightning.metrics import bootstrap_interval, rank_accuracy, srcc

PAIRS = (("Seeking_30_480_1050", "Seeking_10_288_375"), ("carphone_pristine", "carphone_distorted"))
"""Names of files, the better one first: by the opinions of 26 viewers, and by being the other's source."""

LEAST_FALL = 0.5
"""dB of XPSNR; MPEG's rule of thumb for a difference in PSNR that can be seen (Salomon, Data Compression)."""

STUDENT, GIVEN = "student", "checkpoint"


class Score(NamedTuple):
    """What an annotator says of a file, higher better, with its standard error; NaN where it knows none."""

    value: float
    stderr: float


Scores = Mapping[str, Mapping[str, Score]]
"""Annotator -> video id -> score."""


class Rank(NamedTuple):
    """Two rungs of one ladder as an annotator sees them.

    Attributes:
        difference: score of the milder less that of the harsher.
        adjacent: whether they are neighbours.
        content: of their source.
    """

    difference: float
    adjacent: bool
    content: str


def train(root: Path, manifest: Path, pairs: int, seed: int) -> Path:
    """Fit the student of a fold unless it lies there already; return its checkpoint."""
    root.mkdir(exist_ok=True)
    config = yaml.safe_load(CONFIG.read_text())
    config["trainer"]["callbacks"][0]["init_args"]["calibration_simulators"] = ["av1"]
    (root / CONFIG.name).write_text(yaml.safe_dump(config))
    settings = {
        "trainer.accelerator": "cpu",
        "seed_everything": seed,
        "data.splits.seed": seed,
        "data.videos": manifest,
    }
    settings |= {"data.counts.synthetic": 3 * pairs // 4, "data.counts.teacher": pairs // 4}
    return fit(root, str(root / CONFIG.name), settings)[0]


def annotators(student: Path, given: Path | None, learnt: Sequence[Video]) -> dict[str, Teacher]:
    """Return who scores the contents of a fold: the models, then what needs no weights, the baseline last."""
    found: dict[str, Teacher] = {STUDENT: Checkpoint(str(student))}
    if given is not None:
        found[GIVEN] = Checkpoint(str(given))
    teachers = [
        NIQE("fitted"),
        Artefacts(),
        FFmpegDetector("blockdetect"),
        FFmpegDetector("blurdetect"),
        SITI("si"),
    ]
    for teacher in (*teachers, Laplacian()):
        teacher.prepare(learnt)
        found[teacher.name] = teacher
    return found


def score(annotator: Teacher, asked: Sequence[Request], store: LabelStore) -> dict[str, Score]:
    """Return what an annotator says of the files, and of the files that it was asked about before."""
    annotate_missing(annotator, asked, store, 0)
    table = store.read(round=0, fingerprint=annotator.fingerprint)
    columns = table["video_id"], table["score"], table["stderr"].fill_null(math.nan)
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return {video_id: Score(value, stderr) for video_id, value, stderr in rows}


def held_out(members: Sequence[Video], ladders: Sequence[Ladder]) -> list[Request]:
    """Return the videos of a fold and their encodes."""
    ids = {video.video_id for video in members}
    files = [
        replace(rung, content=ladder.source.content)
        for ladder in ladders
        if ladder.source.video_id in ids
        for rung in ladder.rungs
    ]
    return [Request(video) for video in (*members, *files)]


def rank(scores: Mapping[str, Score], ladder: Ladder) -> list[Rank]:
    """Return the pairs of a ladder between which everybody sees a difference."""
    values = [scores[rung.video_id].value for rung in ladder.rungs]
    return [
        Rank(values[milder] - values[harsher], harsher - milder == 1, ladder.source.content)
        for milder, harsher in ladder.pairs(LEAST_FALL)
    ]


def share_cell(ranks: Sequence[Rank]) -> str:
    """Return the share of the pairs in order, with its interval."""
    difference = np.array([one.difference for one in ranks])
    order = np.ones(len(ranks))
    ends = bootstrap_interval(rank_accuracy, difference, order, groups=[one.content for one in ranks])
    return with_interval(rank_accuracy(difference, order), ends, 2)


def srcc_cell(scores: Mapping[str, Score], ladders: Sequence[Ladder]) -> str:
    """Return the mean SRCC of score and falling CRF, with its interval."""
    found = [
        srcc([scores[rung.video_id].value for rung in ladder.rungs], -np.array(ladder.codec.levels))
        for ladder in ladders
    ]
    values = np.nan_to_num(found)
    ends = bootstrap_interval(np.mean, values, groups=[ladder.source.content for ladder in ladders])
    return with_interval(float(values.mean()), ends, 2)


def ladder_table(scores: Scores, ladders: Sequence[Ladder], title: str) -> Table:
    """Return a table with one row an annotator for each codec, and for all codecs."""
    found = table(title, ("codec", "annotator", "adjacent", "all", "SRCC with CRF"))
    for codecs in (*((codec,) for codec in CODECS), CODECS):
        chosen = [ladder for ladder in ladders if ladder.codec in codecs]
        heading = codecs[0].name if len(codecs) == 1 else "all"
        for name, own in scores.items():
            ranks = [one for ladder in chosen for one in rank(own, ladder)]
            shares = share_cell([one for one in ranks if one.adjacent]), share_cell(ranks)
            found.add_row(heading, name, *shares, srcc_cell(own, chosen))
            heading = ""
        found.add_section()
    return found


def counted(scores: Scores, ladders: Sequence[Ladder]) -> str:
    """Return how many pairs there are, were left out as hardly different, and were tied."""
    every, kept = (
        [pair for ladder in ladders for pair in ladder.pairs(least)] for least in (-math.inf, LEAST_FALL)
    )
    ties = {
        name: sum(one.difference == 0 for ladder in ladders for one in rank(own, ladder))
        for name, own in scores.items()
    }
    tied = ", ".join(f"{name} {count}" for name, count in ties.items() if count) or "none"
    return (
        f"{len(ladders)} ladders, {len(every)} pairs of rungs; {len(every) - len(kept)} hardly differ (XPSNR "
        f"falls by less than {LEAST_FALL} dB) and are left out; tied scores: {tied}."
    )


def pair_tables(scores: Scores, corpus: Sequence[Video]) -> Iterator[Table]:
    """Yield a table of what each annotator says, for each pair of known order in the corpus."""
    ids = {Path(video.path).stem: video.video_id for video in corpus}
    for better, other in PAIRS:
        if not {better, other} <= ids.keys():
            continue
        pair = table(f"{better} over {other}", ["annotator"], ("better", "other", "in order", "P(better)"))
        for name, own in scores.items():
            one, two = own[ids[better]], own[ids[other]]
            shown, probability = [f"{side.value:.4g}" for side in (one, two)], ""
            if name in (STUDENT, GIVEN):
                shown = [f"{side.value:.1f} ± {side.stderr:.1f}" for side in (one, two)]
                joint = math.hypot(one.stderr, two.stderr)
                probability = f"{ndtr((one.value - two.value) / joint):.3f}"
            pair.add_row(name, *shown, "yes" if one.value > two.value else "no", probability)
        yield pair


def main() -> None:
    """Train and encode what is missing, score, and print."""
    parser = arguments(__doc__)
    parser.add_argument("--ckpt_path", type=Path, help="a checkpoint that has seen none of the videos")
    parser.add_argument("--videos", default="../shared/data/clips")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=4800, help="a round; a quarter labelled by teachers")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each video that are encoded")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="folds side by side, one thread each")
    parser.add_argument("--root", type=Path, default=Path("runs/known_order"), help="where students lie")
    args = parser.parse_args()
    torch.set_num_threads(1)
    root = (args.root / f"{args.folds}-folds-{args.pairs}-pairs-seed-{args.seed}").resolve()
    encodes = (args.root / "ladders").resolve()
    for folder in (root, encodes):
        folder.mkdir(parents=True, exist_ok=True)
    corpus = write_folds(args.videos, args.folds, root)
    manifests = [root / f"fold_{fold}.csv" for fold in range(args.folds)]
    store = LabelStore(args.root / "scores")
    with ThreadPoolExecutor(args.jobs) as pool:
        encoded = pool.map(lambda video: encode_ladders(video, encodes, args.seconds), corpus)
        ladders = [ladder for found in encoded for ladder in found]

        def judge(manifest: Path) -> dict[str, dict[str, Score]]:
            student = train(manifest.with_suffix(""), manifest, args.pairs, args.seed)
            fold = build_corpus(manifest)
            asked = held_out(videos(fold, "report"), ladders)
            judges = annotators(student, args.ckpt_path, videos(fold, "train"))
            return {name: score(judge, asked, store) for name, judge in judges.items()}

        scores: dict[str, dict[str, Score]] = {}
        for fold in pool.map(judge, manifests):
            for name, found in fold.items():
                scores.setdefault(name, {}).update(found)

    contents = len({video.content for video in corpus})
    title = (
        f"Encodes in order: {len(corpus)} videos, {contents} contents, {args.folds} folds, "
        f"{args.pairs} pairs a round, seed {args.seed}"
    )
    console = Console(width=100)
    console.print(ladder_table(scores, ladders, title))
    console.print(counted(scores, ladders))
    for pair in pair_tables(scores, corpus):
        console.print(pair)


if __name__ == "__main__":
    main()
