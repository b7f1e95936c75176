"""What fine-tuning on MOS gains on contents that no step of training has seen.

    python benchmarks/finetune.py
    python benchmarks/finetune.py --ckpt_path runs/round/version_0/checkpoints/last.ckpt

The script takes the embedded corpus with the MOS of its simulated observers, in folds: every content is held
out once. In each fold one checkpoint is trained by round.yaml without any label. The checkpoint is fine-tuned
by finetune.yaml with human pairs, and as a control for as many steps without human pairs. With --ckpt_path
there is one division, the corpus's own, by which round.yaml trained that checkpoint. The script prints SRCC
on the held-out contents, the mean over the folds, with the MOS and with the hidden truth; intervals are 95 %
of a paired bootstrap over contents. A model that was trained before is not trained again.
"""

import csv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from experiment import CONFIGS, arguments, fit, with_interval
from rich.console import Console
from rich.table import Table

from datamodules.corpus import Splits
from datamodules.files import cache_folder
from datamodules.labels import Annotator, Request
from datamodules.opinions import read_opinions
from datamodules.procedural import read_truth, write_corpus, write_mos
from datamodules.round_data import EMBEDDED_CONTENTS, RoundDataModule
from datamodules.teachers import Laplacian
from vqa_lightning.annotators.checkpoint_teacher import Checkpoint
from vqa_lightning.metrics import bootstrap_interval, srcc

CONFIG = CONFIGS / "finetune.yaml"
BEFORE, TUNED, CONTROL, BASELINE = (
    "checkpoint",
    "tuned on MOS",
    "tuned without MOS",
    "mean absolute Laplacian",
)

Floats = npt.NDArray[np.float64]


def without_labels() -> dict[str, object]:
    """Return the settings that replace the human pairs of a round by as many more of the other pairs."""
    settings = yaml.safe_load(CONFIG.read_text())["data"]["init_args"]
    counts = settings["counts"]
    others = {source: counts[source] for source in ("synthetic", "teacher")}
    factor = 1 + counts["human"] / sum(others.values())
    more = {f"data.counts.{source}": round(factor * count) for source, count in others.items()}
    return {**more, "data.counts.human": 0, "data.labelling.mos": "null"}


def score(annotator: Annotator, data: RoundDataModule) -> dict[str, float]:
    """Return the score of each content of the report split."""
    contents = {video.video_id: video.content for video in data.split("report")}
    requests = [Request(video) for video in data.split("report")]
    return {contents[row.video_id]: row.score for row in annotator.annotate(requests, 0)}


def write_folds(folder: Path, contents: Sequence[str], count: int) -> list[Path]:
    """Write a manifest for each fold: its contents to report on, half of the next fold's to select by."""
    manifests = []
    for fold in range(count):
        report, following = contents[fold::count], contents[(fold + 1) % count :: count]
        splits = dict.fromkeys(contents, "train") | dict.fromkeys(following[::2], "select")
        splits |= dict.fromkeys(report, "report")
        manifests.append(folder / f"fold_{fold}.csv")
        embedded = cache_folder() / "embedded"
        with manifests[-1].open("w", newline="") as file:
            rows = [(embedded / f"{content}.mp4", content, split) for content, split in splits.items()]
            csv.writer(file).writerows([("path", "content", "split"), *rows])
    return manifests


def run_fold(folder: Path, videos: Path, mos: Path, given: Path | None) -> dict[str, dict[str, float]]:
    """Train one division's models, and score its report split by each and by the baseline.

    Args:
        folder: for the runs.
        videos: manifest with the splits.
        mos: the list.
        given: a checkpoint to begin with; None: one is trained first.
    """
    settings = {"data.videos": videos, "data.splits.duplicates": "false"}
    before = given or fit(folder / "before", "round.yaml", settings | {"trainer.max_epochs": 1})[0]
    settings["model.init_from"] = before.resolve()
    tuned, _ = fit(folder / "tuned", "finetune.yaml", settings | {"data.labelling.mos": f"[{mos}]"})
    control, _ = fit(folder / "control", "finetune.yaml", settings | without_labels())
    data = RoundDataModule(str(videos), splits=Splits(duplicates=False))
    data.setup("fit")
    files = {BEFORE: before, TUNED: tuned, CONTROL: control}
    scores = {name: score(Checkpoint(str(file)), data) for name, file in files.items()}
    return {**scores, BASELINE: score(Laplacian(), data)}


def mean_srcc(scores: Floats, target: Floats) -> float:
    """Return the mean over the folds of SRCC, each over its own report split.

    Args:
        scores: (contents, folds), nan where a content is not in the report split.
        target: (contents,).
    """
    held_out = np.isfinite(scores)
    return float(
        np.mean([srcc(s[known], target[known]) for s, known in zip(scores.T, held_out.T, strict=True)])
    )


def gain(after: Floats, before: Floats, target: Floats) -> float:
    """Return how much higher the first correlation is."""
    return mean_srcc(after, target) - mean_srcc(before, target)


def report(
    runs: Sequence[Mapping[str, Mapping[str, float]]], targets: Mapping[str, Mapping[str, float]]
) -> Table:
    """Return the table of all models against all targets."""
    contents = sorted({content for run in runs for content in run[BEFORE]})
    scores = {
        name: np.array([[run[name].get(content, np.nan) for run in runs] for content in contents])
        for name in (BEFORE, TUNED, CONTROL, BASELINE)
    }
    held_out = ", ".join(str(len(run[BEFORE])) for run in runs)
    table = Table(title=f"Report split, {held_out} contents", title_justify="left")
    table.add_column("model")
    for target in targets:
        for column in (f"SRCC with {target}", "above the checkpoint by", "above the control by"):
            table.add_column(column)
    for name, own in scores.items():
        cells = []
        for target in targets.values():
            known = np.array([target[content] for content in contents])
            arrays = own, known
            cells.append(
                with_interval(mean_srcc(*arrays), bootstrap_interval(mean_srcc, *arrays, groups=contents))
            )
            for other in (BEFORE, CONTROL):
                compared = own, scores[other], known
                found = with_interval(gain(*compared), bootstrap_interval(gain, *compared, groups=contents))
                cells.append("" if name in (other, BASELINE) else found)
        table.add_row(name, *cells)
    return table


def main() -> None:
    """Train what is missing and print."""
    parser = arguments(__doc__)
    parser.add_argument("--ckpt_path", type=Path, help="trained by round.yaml on the embedded corpus")
    parser.add_argument("--folds", type=int, default=4, help="in which contents are held out in turn")
    parser.add_argument("--jobs", type=int, default=2, help="folds side by side, one thread each")
    parser.add_argument("--root", type=Path, default=Path("runs/finetune_gain"), help="where runs are kept")
    args = parser.parse_args()
    root = args.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    own = write_corpus(cache_folder() / "embedded", EMBEDDED_CONTENTS)
    mos, truth = write_mos(own.parent), read_truth(own.parent)
    if args.ckpt_path is not None:
        runs = [run_fold(root / "given", own, mos, args.ckpt_path)]
    else:
        manifests = write_folds(root, list(truth), args.folds)
        with ThreadPoolExecutor(args.jobs) as pool:
            runs = list(pool.map(lambda file: run_fold(root / file.stem, file, mos, None), manifests))
    opinions = read_opinions(mos)
    voted = {
        Path(name).stem: value for name, value in zip(opinions.names, opinions.mos.tolist(), strict=True)
    }
    Console(width=200).print(report(runs, {"MOS": voted, "the truth": truth}))


if __name__ == "__main__":
    main()
