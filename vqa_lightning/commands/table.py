"""The commands beside LightningCLI's: each is one function with plain arguments, in a module of its own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, auto_cli

from datamodules.pairs.released import export_pairs, import_pairs
from datamodules.selection.select_command import select_videos
from vqa_lightning.commands.agreement import compare_models
from vqa_lightning.commands.compare import as_lists, compare_videos
from vqa_lightning.commands.curate import Curate
from vqa_lightning.commands.export import export_model
from vqa_lightning.commands.gmad import draw_gmad
from vqa_lightning.commands.listing import print_listing
from vqa_lightning.commands.report import write_report


class Command(NamedTuple):
    """What a word runs, and what its --help says.

    Attributes:
        run: a function, a dictionary with a function for each of the command's own words, or a class whose
            instance is called, for more arguments than a function takes.
        description: one sentence.
        flags: arguments that may stand without a value, although jsonargparse wants one.
        positional: whether arguments without a default are words without a name.
        prepared: what becomes of the words before they are parsed.
    """

    run: Any
    description: str
    flags: tuple[str, ...] = ()
    positional: bool = False
    prepared: Callable[[Sequence[str]], Sequence[str]] = list


COMMANDS = {
    "list": Command(print_listing, "Simulators, codecs, teachers, families, configs and benchmarks."),
    "pairs": Command(
        {"export": export_pairs, "import": import_pairs},
        "Pair tables to and from the layout of W2S-VQA's released training pairs.",
    ),
    "select": Command(select_videos, "From a pool of videos to a manifest of those that are like a target."),
    "export": Command(
        export_model,
        "A trained model as a PEFT adapter, as plain weights for from_pretrained, or as a scorer in ONNX.",
        flags=("--merge",),
    ),
    "compare": Command(
        compare_videos,
        "A page of encodes beside each other: vqa-lightning compare A.mp4 B.mp4 --ckpt_path CKPT. Two "
        "folders are matched by name; more than two files are encodes of one content; --ladder NAME=FOLDER, "
        "given twice or more, gives BD-rates.",
        prepared=as_lists,
    ),
    "agreement": Command(compare_models, "Two score files against human opinions, and against each other."),
    "report": Command(
        write_report, "A page of the scores that predict wrote, in one file to open or send.", positional=True
    ),
    "curate": Command(
        Curate,
        "From the scores of a corpus to a manifest of what stays, and why the rest went.",
        flags=("--dedupe",),
        positional=True,
    ),
    "gmad": Command(draw_gmad, "The pairs of videos on which two score files disagree most, as a picture."),
}


def run_command(words: Sequence[str], parser_class: type[ArgumentParser]) -> None:
    """Run the command that the first word names with the arguments that follow."""
    command = COMMANDS[words[0]]
    made = auto_cli(
        command.run,
        as_positional=command.positional,
        args=[f"{word}=true" if word in command.flags else word for word in command.prepared(words[1:])],
        prog=f"vqa-lightning {words[0]}",
        description=command.description,
        parser_class=parser_class,
    )
    if callable(made):
        made()
