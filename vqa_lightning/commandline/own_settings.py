"""The command line's own settings and help, beside those of the Trainer, the model and the data."""

from typing import Literal

from lightning.pytorch.cli import LightningArgumentParser

from callbacks.scores.benchmark_report import FOLDER
from callbacks.scores.pooling import Pool
from vqa_lightning.commands.table import COMMANDS

HELP = {
    "prog": "vqa-lightning",
    "description": "Train and use video quality models without human labels. "
    f"Besides, {', '.join(COMMANDS)}: each has a --help of its own. "
    "`predict --model.teacher CLASS` needs no training.",
    "fit": {
        "epilog": "--callbacks.CLASS.SETTING VALUE changes one setting of a callback that a config lists, "
        "such as --callbacks.SelfImprovement.ladders 4; of a class that is listed twice, "
        "--callbacks.CLASS.0.SETTING."
    },
}
"""What LightningCLI hands to its parsers: to all of them, and to fit's."""


def add_own_settings(parser: LightningArgumentParser) -> None:
    """Make pairs of rounds the data unless another class is named, and add what no class of Lightning has."""
    parser.set_defaults({"data": {"class_path": "datamodules.RoundDataModule"}})
    parser.set_defaults({"trainer.enable_model_summary": False})  # a fit says in one line what counts
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="Where predict writes its rows, .csv, .jsonl or .parquet (null: scores.csv), and test the "
        f"folder of its report on benchmarks (null: {FOLDER}). With --engine ray a folder (null: scores).",
    )
    parser.add_argument(
        "--engine",
        type=Literal["lightning", "ray"],
        default="lightning",
        help="Who shares out the work of predict: Lightning, or Ray Data over a cluster (extra ray).",
    )
    parser.add_argument(
        "--calibration",
        type=str | None,
        default=None,
        help="A human scale that was fitted to this model's scores: predict adds the column calibrated.",
    )
    parser.add_argument(
        "--pool",
        type=Pool | None,
        default=None,
        help="What predict writes as score of a video where data.score_every is set: a pool over time "
        "(null: the score of a few clips of the whole).",
    )
    parser.add_argument(
        "--report", type=str | None, default=None, help="An HTML page of what predict scored, in one file."
    )
    parser.add_argument(
        "--fail-below",
        type=str,
        nargs="+",
        action="append",
        default=[],
        help="predict ends with code 3 where a score is lower, such as 40, percentile:10 or p5:35.",
    )
    parser.add_argument(
        "--baseline",
        type=str | None,
        default=None,
        help="Scores that predict wrote before: it ends with code 3 where one has dropped.",
    )
    parser.add_argument(
        "--max-drop", type=float, default=0.0, help="By which a score may be below the baseline's."
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        help="How sure it must be that a score has dropped, by the errors of both.",
    )
    parser.add_argument(
        "--junit", type=str | None, default=None, help="JUnit XML of what did not pass, for CI to show."
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="fit --ckpt_path goes on although settings or videos are not those that the run began with.",
    )
