"""The command line: one LightningCLI over a RankingModule and any datamodule.

What a person types wins over what a checkpoint remembers, and a checkpoint fills in what nobody typed. A
user's mistake ends in one sentence and exit code 2, never in a traceback.
"""

import json
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NoReturn

_PACKAGES = ("callbacks", "datamodules")


@cache
def _put_last(here: Path) -> None:
    """Puts the current folder behind the installed packages on the search path.

    `python -m` searches it first, and a console script not at all: a user's own modules must be found, but a
    folder of theirs named as one of our packages must not hide it.
    """
    ours = Path(__file__).resolve().parents[1]
    if here == ours:
        return
    sys.path[:] = [*(entry for entry in sys.path if Path(entry or ".").resolve() != here), str(here)]
    shadows = [name for name in _PACKAGES if (here / name).exists() or (here / f"{name}.py").exists()]
    if shadows:
        print(
            f"note: the current folder has its own {' and '.join(shadows)}; "
            "vqa-lightning uses its own of that name.",
            file=sys.stderr,
        )


_put_last(Path.cwd().resolve())

# Nothing of ours, and nothing that a user's folder might hide, may be imported before the search path is in
# order.
import torch  # noqa: E402
import yaml  # type: ignore[import-untyped]  # noqa: E402
from jsonargparse import Namespace  # noqa: E402
from lightning.fabric.utilities.exceptions import MisconfigurationException  # noqa: E402
from lightning.pytorch import LightningDataModule, Trainer  # noqa: E402
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI  # noqa: E402
from lightning.pytorch.loggers import TensorBoardLogger  # noqa: E402

from callbacks.benchmark_report import FOLDER, BenchmarkReport  # noqa: E402
from callbacks.label_writer import LabelWriter  # noqa: E402
from callbacks.score_writer import ScoreWriter  # noqa: E402
from datamodules.benchmark_data import BenchmarkDataModule  # noqa: E402
from datamodules.errors import InputError, UnreadableVideo  # noqa: E402
from vqa_lightning.commands import COMMANDS, run_command  # noqa: E402
from vqa_lightning.listing import shipped_configs  # noqa: E402
from vqa_lightning.module import RankingModule  # noqa: E402
from vqa_lightning.teacher_module import TeacherModule  # noqa: E402

FREE = {
    f"model.lmm.{name}" for name in ("checkpointing", "feature_cache", "feature_cache_gb", "motion_weights")
}
"""Settings of the model that change nothing of what its weights mean."""

MEANING = (
    *("lmm", "sampling", "trained", "judgements", "pointwise_loss"),
    *("score_by", "score_both_orders", "anchors"),
)
"""Settings of the model under which a checkpoint's weights, or the scale of its scores, mean what they do."""

KEPT = ("lmm", "sampling", "trained", "judgements", "score_by", "pairwise_loss", "pointwise_loss")
"""Settings of the model that a fit takes from the checkpoint whose weights it begins with."""

SUBCOMMANDS = ("fit", "validate", "test", "predict")


class _Parser(LightningArgumentParser):
    """Ends a mistake in the configuration with one sentence instead of the whole usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises the innermost of jsonargparse's nested complaints."""
        lines = [line for line in message.splitlines() if line.strip()]
        deepest = max(lines, key=lambda line: len(line) - len(line.lstrip()))
        sentence = re.sub(r"^[\s-]+", "", deepest).rstrip(".:")
        raise InputError(
            f"{sentence}: see --help, or --data.help and --print_config, for what there is."
        ) from ex


class RankingCLI(LightningCLI):
    """LightningCLI with a run folder for each fit, and checkpoints that fill in only what was not given."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Makes pairs of rounds the data unless another class is named."""
        parser.set_defaults({"data": {"class_path": "datamodules.RoundDataModule"}})
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="Where predict writes its rows, .csv, .jsonl or .parquet (null: scores.csv), and test the "
            f"folder of its report on benchmarks (null: {FOLDER}).",
        )
        parser.add_argument(
            "--calibration",
            type=str | None,
            default=None,
            help="A human scale that was fitted to this model's scores: predict adds the column calibrated.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the words that `main` has prepared, whatever this process was started with."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration as it was typed: `main` has laid the checkpoint's own under it."""

    def before_instantiate_classes(self) -> None:
        """Finds the run to go on with, and refuses a checkpoint that does not fit."""
        config = self.config[self.subcommand]
        self.run = Path(config.trainer.default_root_dir or ".") / "runs" / _run_name(config.config)
        self.version: str | None = None
        if config.ckpt_path is not None and self.model_class is TeacherModule:
            raise InputError(
                f"--ckpt_path {config.ckpt_path} does not go with --model.teacher: "
                "predict with the one or the other."
            )
        if config.ckpt_path is not None:
            check_settings(check_checkpoint(Path(config.ckpt_path)), config.model)
        if self.subcommand != "fit":
            self.save_config_callback = None
            if self.subcommand == "predict":
                config.return_predictions = False  # the writer has them; a large corpus would fill the memory
            if config.ckpt_path is None and self.model_class is RankingModule:
                teacher = ", or --model.teacher CLASS" if self.subcommand == "predict" else ""
                raise InputError(
                    f"{self.subcommand} needs a trained model: "
                    f"give --ckpt_path RUN/checkpoints/last.ckpt{teacher}."
                )
        elif config.ckpt_path is not None:
            folder = Path(config.ckpt_path).resolve().parents[1]
            if not (folder / "pairs").is_dir():
                raise InputError(
                    f"--ckpt_path {config.ckpt_path} lies in no run folder: "
                    "go on with the checkpoint where fit put it."
                )
            self.run, self.version = folder.parent, folder.name
            self.save_config_callback = None  # the run's own configuration stays as it was
            print(f"going on with {folder}", file=sys.stderr)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Gives every fit a folder of its own; other commands leave no trace but their output."""
        config = self.config[self.subcommand]
        if self.subcommand != "fit":
            kwargs["logger"] = False
            kwargs["enable_checkpointing"] = False
            kwargs["callbacks"] = []
            if self.subcommand == "predict" and self.model_class is TeacherModule:
                if config.calibration is not None:
                    raise InputError(
                        f"--calibration {config.calibration} does not go with --model.teacher: a human "
                        "scale is fitted to a checkpoint's scores."
                    )
                kwargs["callbacks"] = [LabelWriter(config.output or "scores.csv")]
            elif self.subcommand == "predict":
                kwargs["callbacks"] = [ScoreWriter(config.output or "scores.csv", config.calibration)]
            elif self.subcommand == "test" and isinstance(self.datamodule, BenchmarkDataModule):
                kwargs["callbacks"] = [BenchmarkReport(config.output or FOLDER)]
        elif config.trainer.logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(self.run.parent, name=self.run.name, version=self.version)
        return super().instantiate_trainer(**kwargs)


def _run_name(configs: Sequence[Any] | None) -> str:
    """The stem of the first config that is a file; `run` where everything was typed."""
    files = [str(config) for config in configs or () if config is not None]
    return Path(files[0]).stem if files else "run"


def newest_checkpoint(runs: Path) -> Path:
    """The last checkpoint of the newest run of a name.

    Args:
        runs: `runs/NAME`.

    Raises:
        InputError: there is none.
    """
    versions = sorted(runs.glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    checkpoint = versions[-1] / "checkpoints" / "last.ckpt" if versions else None
    if checkpoint is None or not checkpoint.is_file():
        raise InputError(
            f"--ckpt_path last: there is no run with a checkpoint under {runs}, or the newest "
            "died before its first: start one without it."
        )
    return checkpoint


def check_settings(checkpoint: dict[str, Any], model: Any) -> None:
    """Refuses settings of the model under which a checkpoint's weights mean nothing.

    Raises:
        InputError: the first that differs.
    """
    remembered = checkpoint["hyper_parameters"]
    for name in [name for name in MEANING if name in remembered]:  # an older one lacks newer settings
        typed, kept = (
            _flat(f"model.{name}", json.loads(json.dumps(_plain(value))))
            for value in (model[name], remembered[name])
        )
        for setting in typed.keys() | kept.keys():
            new, old = typed.get(setting), kept.get(setting)
            if setting == "model.lmm.pretrained" and new is not None and old is not None:
                new, old = Path(new).name, Path(old).name  # the same checkpoint may lie elsewhere now
            if new != old and setting not in FREE:
                raise InputError(
                    f"the checkpoint was trained with {setting} {old}, not {new}: leave the setting "
                    "as it was, or start a new run."
                )


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: one for part, inner in value.items() for key, one in _flat(f"{name}.{part}", inner).items()}


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def check_checkpoint(path: Path, setting: str = "--ckpt_path") -> dict[str, Any]:
    """Loads a checkpoint's contents.

    Args:
        path: the file.
        setting: by which it was named.

    Raises:
        InputError: it is missing, or no checkpoint of ours.
    """
    if not path.is_file():
        raise InputError(f"{setting} {path} is not a file: give a .ckpt that fit has written.")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        ours = {"anchors", "scale_current"} <= checkpoint.keys()
    except Exception as error:  # torch.load raises what the damage happens to cause
        raise InputError(
            f"{setting} {path} is not a checkpoint that can be read: give one that fit wrote."
        ) from error
    if not ours:
        raise InputError(
            f"{setting} {path} is a checkpoint of another model, or of an earlier version: give one that "
            "this vqa-lightning's fit wrote."
        )
    return checkpoint


def _with_known_configs(args: Sequence[str]) -> list[str]:
    """Replaces bare names of shipped configs by their paths."""
    shipped = shipped_configs()
    found = []
    for place, word in enumerate(args):
        flag, joined, value = word.partition("=")
        if joined and flag in ("--config", "-c"):
            word = f"{flag}={_known(value, shipped)}"
        elif place and args[place - 1] in ("--config", "-c"):
            word = _known(word, shipped)
        found.append(word)
    return found


def _known(name: str, shipped: dict[str, Path]) -> str:
    if name.lstrip().startswith("{") or Path(name).is_file():
        return name
    if name in shipped:
        return str(shipped[name])
    raise InputError(
        f"--config {name} is neither a file nor a shipped config ({', '.join(shipped)}): check the name."
    )


def _with_newest_run(args: list[str]) -> list[str]:
    """Replaces `--ckpt_path last` by the last checkpoint of the newest run named as the first config is."""
    joined = ("--ckpt_path=", "--config=", "-c=", "--trainer.default_root_dir=")
    words = [part for word in args for part in (word.split("=", 1) if word.startswith(joined) else [word])]
    following = list(pairwise(words))
    if ("--ckpt_path", "last") not in following:
        return args
    configs = [value for flag, value in following if flag in ("--config", "-c")]
    roots = [value for flag, value in following if flag == "--trainer.default_root_dir"] or ["."]
    checkpoint = str(newest_checkpoint(Path(roots[-1]) / "runs" / _run_name(configs)))
    place = words.index("last", words.index("--ckpt_path"))
    return [*words[:place], checkpoint, *words[place + 1 :]]


def _with_checkpoint_below(args: list[str]) -> list[str]:
    """Lays a checkpoint's hyper-parameters under everything typed.

    All of them for the commands that only use a model; for a fit that begins with a checkpoint's weights
    those without which the weights would mean something else.
    """
    if not args or args[0] not in SUBCOMMANDS or names_teacher(args):
        return args
    words = dict(pairwise(args))
    words |= {flag: value for flag, joined, value in (word.partition("=") for word in args) if joined}
    setting, given = "--ckpt_path", words.get("--ckpt_path")
    if args[0] == "fit":
        first = words.get("--model.init_from", _configured(args).get("init_from"))
        if first is None or given is None:
            setting, given = "--model.init_from", first
    if given is None:
        return args
    remembered = dict(check_checkpoint(Path(given), setting)["hyper_parameters"])
    remembered.pop("_instantiator", None)
    if args[0] == "fit":
        remembered = {name: value for name, value in remembered.items() if name in KEPT}
    return [args[0], "--config", json.dumps({"model": remembered}), *args[1:]]


def _with_plain_videos(args: list[str]) -> list[str]:
    """Has predict read videos and no pairs where configs name a fit's datamodule, or none.

    What else such a datamodule is set to then costs nothing and cannot fail. Configs come first, so that what
    is typed wins wherever it stands.
    """
    named = str(_configured(args, "data").get("class_path", "RoundDataModule"))
    if args[:1] != ["predict"] or names_teacher(args) or not named.endswith("RoundDataModule"):
        return args
    configs: list[str] = []
    typed: list[str] = []
    words = iter(args[1:])
    for word in words:
        if word in ("--config", "-c"):
            configs += [word, *islice(words, 1)]
        else:
            (configs if word.startswith(("--config=", "-c=")) else typed).append(word)
    # A fit's number of workers, if only its default, would be taken over.
    plain = ["--data", "datamodules.VideoDataModule", "--data.workers", "null"]
    return ["predict", *configs, *plain, *typed]


def _configured(args: Sequence[str], part: str = "model") -> dict[str, Any]:
    """What the configs among the words say of the model, or of another part, the last one winning."""
    words = [part for word in args for part in word.split("=", 1)]
    configs = [value for flag, value in pairwise(words) if flag in ("--config", "-c")]
    texts = [config if config.lstrip().startswith("{") else Path(config).read_text() for config in configs]
    try:
        loaded = [yaml.safe_load(text) for text in texts]
    except yaml.YAMLError:
        return {}  # the parser will say what is wrong with it
    parts = [config.get(part) for config in loaded if isinstance(config, dict)]
    return {name: value for found in parts if isinstance(found, dict) for name, value in found.items()}


def names_teacher(args: Sequence[str]) -> bool:
    """Whether predict is asked to score by a teacher, in words or in a config."""
    if args[:1] != ["predict"]:
        return False
    return any(word.startswith("--model.teacher") for word in args) or "teacher" in _configured(args)


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command.

    Args:
        args: words of the command line without the program's name; none: those of this process.

    Raises:
        SystemExit: code 2 and one sentence on stderr for a user's mistake.
    """
    _put_last(Path.cwd().resolve())
    try:
        words = _with_newest_run(_with_known_configs(list(sys.argv[1:] if args is None else args)))
        if words and words[0] in COMMANDS:
            run_command(words, _Parser)
            return
        # Lightning's advertisements among its messages.
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
            lambda record: "Tip:" not in record.getMessage()
        )
        with warnings.catch_warnings():
            # https://github.com/Lightning-AI/pytorch-lightning/issues/21900
            warnings.filterwarnings("ignore", module="lightning.pytorch.cli", category=DeprecationWarning)
            # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            RankingCLI(
                TeacherModule if names_teacher(words) else RankingModule,
                LightningDataModule,
                subclass_mode_data=True,
                seed_everything_default=0,
                parser_class=_Parser,
                parser_kwargs={
                    "prog": "vqa-lightning",
                    "description": "Train and use video quality models without human labels. "
                    f"Besides, {', '.join(COMMANDS)}: each has a --help of its own. "
                    "`predict --model.teacher CLASS` needs no training.",
                },
                auto_configure_optimizers=False,
                args=_with_checkpoint_below(_with_plain_videos(words)),
            )
    except Exception as error:
        told = _told_to_the_user(error)
        if told is None:
            raise
        print(f"error: {_sentence(told)}", file=sys.stderr)
        raise SystemExit(2) from None


def _sentence(told: BaseException) -> str:
    """What it says, without the traceback that torch wraps around what a worker raised."""
    lines = str(told).strip().splitlines()
    if not lines[0].startswith("Caught "):
        return lines[0]
    return re.sub(r"^[\w.]+: ", "", lines[-1])


def _told_to_the_user(error: BaseException | None) -> BaseException | None:
    """The finished sentence in a chain of exceptions: jsonargparse wraps what a class raises when made."""
    while error is not None and not isinstance(
        error, InputError | UnreadableVideo | MisconfigurationException
    ):
        error = error.__cause__ or error.__context__
    return error
