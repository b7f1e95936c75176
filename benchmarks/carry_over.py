"""What carries over to real video: any checkpoint, the teachers and two trivial students on real clips.

    python benchmarks/carry_over.py --checkpoint runs/round/version_0/checkpoints/last.ckpt --teachers

Each clip of `--data` gives 16 consecutive frames from a quarter of its length on, at most 360 lines and 640
columns (`--size native`: as they are). They become ladders of five levels beside the source (x264, x265, VP9
and AV1 by quality; blur, grain, dropped frames, down and up, gamma) and four chains that end in x264, all as
files. Versions, SSIM, VMAF and scores are made once and kept under `--versions`; VMAF asks for
`imageio-ffmpeg`, without which its columns stay empty.

The tables print for each judge

- the share of pairs of levels in order, by ladder, over all pairs of the source and the five levels of one
  content, a tie counting half; the mean of the ladders, and the least of them;
- SRCC with VMAF and with SSIM over all versions of all contents;
- the share in order of pairs whose VMAF differs by more than 5, within a content and across contents.

Intervals are 95 % of a bootstrap over contents. To tune on some repositories and judge on others:
`--fold 0/2 --manifest tune.csv` writes the clips of one half as a corpus for `fit`, `--fold 1/2` judges on
the other half. `--students` are trained on the pretrained tower's features of repositories not judged.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from carry_over_clips import Source, chosen, sources
from carry_over_fidelity import Row, all_rows
from carry_over_figures import Figures, agreement_tables, figures, ladder_table
from carry_over_judges import (
    ENSEMBLE,
    TOGETHER,
    CheckpointJudge,
    Floats,
    baseline,
    mean_rank,
    scores,
    teachers,
)
from carry_over_students import student_scores, tower
from carry_over_versions import LEVELS
from rich.console import Console

from datamodules.errors import InputError, UnreadableVideo
from datamodules.fidelity.libvmaf import find_ffmpeg
from datamodules.files import cache_folder
from datamodules.labels import LabelStore
from datamodules.labels.annotation import Annotator


def made(clips: Sequence[Source], options: argparse.Namespace, progress: Console) -> list[Row]:
    """Return the rows of the clips' versions; say how far it is, and how long it took."""
    began, rows = time.monotonic(), []
    found = all_rows(clips, options.versions, options.ladders, options.size == "native", options.jobs)
    for number, own in enumerate(found, start=1):
        rows += own
        if progress.is_terminal:
            progress.print(f"clip {number} of {len(clips)}, {time.monotonic() - began:.0f} s", end="\r")
    progress.print(f"{len(rows)} versions of {len(clips)} clips, {time.monotonic() - began:.0f} s")
    return rows


def judges(options: argparse.Namespace) -> dict[str, Annotator]:
    """Return who is asked to judge, the baseline first; a checkpoint that cannot be loaded ends it here."""
    found = {"laplacian": baseline()}
    if options.teachers:
        found |= {teacher.name: teacher for teacher in teachers()}
    for path in options.checkpoint:
        found[label_of(path, options.checkpoint)] = CheckpointJudge(path, options.anew)
    return found


def judged(
    asked: Mapping[str, Annotator], rows: Sequence[Row], options: argparse.Namespace, progress: Console
) -> dict[str, Floats]:
    """Return every judge's scores (n,) of the versions, and the mean rank of the default teachers."""
    store = LabelStore(options.versions / "scores")
    found: dict[str, Floats] = {}
    for name, judge in asked.items():
        began = time.monotonic()
        found[name] = scores(judge, rows, store, options.workers)
        progress.print(f"scores of {name}, {time.monotonic() - began:.0f} s")
    if options.teachers:
        found[ENSEMBLE] = mean_rank([found[name] for name in TOGETHER])
    return found


def label_of(path: Path, others: Sequence[Path]) -> str:
    """Return the stem of a checkpoint, or as much of its path as tells it from the others.

    Example:
        >>> label_of(Path("a/last.ckpt"), [Path("a/last.ckpt"), Path("b/last.ckpt")])
        'a/last'
    """
    for parts in range(1, len(path.parts) + 1):
        label = Path(*path.parts[-parts:]).with_suffix("").as_posix()
        if sum(Path(*other.parts[-parts:]).with_suffix("").as_posix() == label for other in others) == 1:
            return label
    return str(path)


def write_json(file: Path, found: Mapping[str, Figures], settings: Mapping[str, object]) -> None:
    """Write all figures with the settings they were made under."""
    judges = {name: one.plain() for name, one in found.items()}
    file.write_text(json.dumps({"settings": settings, "judges": judges}, indent=1) + "\n")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=[], help=".ckpt files that fit wrote")
    parser.add_argument("--teachers", action="store_true", help="judge the teachers that need no weights")
    parser.add_argument("--students", action="store_true", help="train and judge the two trivial students")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="has clips/ and real/")
    parser.add_argument(
        "--versions", type=Path, help="where versions and scores lie; by default in the cache"
    )
    parser.add_argument(
        "--clips", type=int, help="only the first so many clips; the first ten are data/clips"
    )
    parser.add_argument("--ladders", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--size", choices=("360", "native"), default="360", help="lines at most")
    parser.add_argument("--fold", help='judge the repositories of these folds only: "0/2", or "0,2/4"')
    parser.add_argument("--only-repos", nargs="+", help="judge the clips of these repositories only")
    parser.add_argument("--manifest", type=Path, help="write the chosen clips as a corpus for fit, and stop")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--anew", default="", help="any word: checkpoints' kept scores do not count under it")
    parser.add_argument("--jobs", type=int, default=2, help="processes that make versions")
    parser.add_argument("--workers", type=int, default=0, help="processes that read clips for a judge")
    options = parser.parse_args(words)
    if options.versions is None:
        options.versions = cache_folder() / "carry_over"
    return options


def main(words: Sequence[str] | None = None) -> None:
    """Make what is missing, judge, and print."""
    options = parse(words)
    torch.set_num_threads(1)
    progress = Console(stderr=True)
    try:
        run(options, progress)
    except (InputError, UnreadableVideo) as error:
        raise SystemExit(str(error)) from error


def run(options: argparse.Namespace, progress: Console) -> None:
    """Do what the command line asks for."""
    every = sources(options.data, options.clips)
    clips = chosen(every, options.fold, options.only_repos)
    if options.manifest is not None:
        columns = {"path": [str(Path(clip.video.path).resolve()) for clip in clips]}
        columns |= {"content": [clip.name for clip in clips], "repo": [clip.repo for clip in clips]}
        pa.csv.write_csv(pa.table(columns), options.manifest)
        return
    if find_ffmpeg() is None:
        progress.print("VMAF is left out where it is not kept: pip install imageio-ffmpeg brings it.")
    asked = judges(options)
    rows = made(clips, options, progress)
    found = {name: figures(given, rows) for name, given in judged(asked, rows, options, progress).items()}
    features = tower() if options.students else None
    if options.students and features is None:
        progress.print("The trivial students are left out: this package has no pretrained early tower.")
    if features is not None:
        began = time.monotonic()
        rest = [clip for clip in every if clip not in clips]
        together = [*rows, *(made(rest, options, progress) if rest else [])]
        given = student_scores(together, [place < len(rows) for place in range(len(together))], features)
        found |= {name: figures(values[: len(rows)], rows) for name, values in given.items()}
        progress.print(f"trivial students, {time.monotonic() - began:.0f} s")
    if options.json is not None:
        settings = {"size": options.size, "ladders": options.ladders, "fold": options.fold}
        settings |= {"clips": [clip.name for clip in clips], "versions": len(rows)}
        write_json(options.json, found, settings)
    console = Console(width=80)
    repos = len({clip.repo for clip in clips})
    size = "at most 360 lines" if options.size == "360" else "native size"
    console.print(f"{len(clips)} real clips of {repos} repositories, {len(rows)} versions, {size}")
    for table in (ladder_table(found), *agreement_tables(found)):
        console.print()
        console.print(table)
    if np.any([one.missing for one in found.values()]):
        console.print("Versions without a score are left out of that judge's figures.")


if __name__ == "__main__":
    main()
