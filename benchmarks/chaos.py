"""What trouble does to commands: killed, ended, out of room, files gone, the clock set back, a slow share.

    python benchmarks/chaos.py --runs 100 [--seed 1] [--only kill term] [--jobs 2]

An undisturbed `fit` of three small rounds and an undisturbed `predict` come first. Each run then meets one
trouble, and is begun or continued as its user would do it; in the end all that it found out must be that of
the undisturbed one, bit for bit: pair tables, scores of teachers and students, weights, figures but for
seconds, rows of scores. A run that ends by itself must say why in one line, leave nothing half written, and
end with 0, 2, 130 or 143. `chaos.json` under `--root` has a row for each run, written as they end; the folder
of a run that went wrong stays.

- kill, term, interrupt: a signal at a random moment of a phase; phases take turns.
- room: the folder is a file system of .2 to 6 MB; then there is room. Only root can mount it.
- gone, changed: a video is removed or cut in half while predict reads; the other rows stay as they were.
- clock: killed, then all files are an hour newer than the clock says.
- late: the label store lies on a share that answers after .2 seconds, and the run is killed there.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from chaos_places import PHASES, Place, Undisturbed, ended, place, rows_of, there, undisturbed
from rich.console import Console
from rich.table import Table

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "interrupt": signal.SIGINT}

TROUBLES: Mapping[str, int] = {"kill": 5, "term": 2, "interrupt": 2, "clock": 1, "late": 1} | {
    "room": 9,
    "gone": 7,
    "changed": 7,
}
"""Trouble -> how many of 100 runs meet it: the first five in each phase, the others in all."""

ENDS = (0, 2, 130, 143)
"""Exit codes of a command that ends by itself or by a signal that it may answer."""


def planned(runs: int, only: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Return trouble and phase of each run; those without a phase strike at any time."""
    phases = {trouble: list(PHASES) if trouble in (*SIGNALS, "clock", "late") else [""] for trouble in only}
    plan = [(one, phase) for one in only for phase in phases[one] for _ in range(TROUBLES[one])]
    random.Random(seed).shuffle(plan)
    return [plan[number % len(plan)] for number in range(runs)]


def told(here: Place, code: int) -> str | None:
    """Return what is wrong with how a command ended; None: nothing."""
    if code not in ENDS:
        return f"exit code {code}"
    last = here.log.read_text(errors="replace").strip().splitlines()
    if code and any(line.startswith("Traceback") for line in last):
        return "a traceback"
    return f"half written: {here.left()}" if here.left() else None


def signalled(here: Place, known: Undisturbed, run: "Run", chance: random.Random) -> str | None:
    """Disturb a fit by a signal at a random moment of a phase, go on, and compare."""
    number = SIGNALS.get(run.trouble, signal.SIGKILL)
    process = here.start(here.fit)
    while not there(here.folder, run.phase) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(chance.random() * known.phases[run.phase][1])
    run.phase = [phase for phase in PHASES if there(here.folder, phase)][-1]  # it may have been quicker
    os.killpg(process.pid, number)
    run.code = ended(process, 60)
    wrong = None if number == signal.SIGKILL else told(here, run.code)
    if run.trouble == "clock":
        ahead = time.time() + 3600
        for file in here.folder.rglob("*"):
            os.utime(file, (ahead, ahead))
    return wrong or finished(here, known)


def finished(here: Place, known: Undisturbed) -> str | None:
    """Go on with a fit to its end; return how it differs from the undisturbed one."""
    code = here.whole(here.fit)
    if code:
        return f"going on ended with {code}"
    found = here.outcome()
    differs = [name for name, value in known.fit.items() if found[name] != value]
    if differs:
        return f"other {', '.join(differs)}"
    return f"half written: {here.left()}" if here.left() else None


def without_room(here: Place, known: Undisturbed, run: "Run", chance: random.Random) -> str | None:
    """Fit on a small file system, then on one with room."""
    size = chance.randrange(200, 6000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(here.folder)], check=True)
    try:
        place(here.folder, known.videos, known.references)
        run.code = here.whole(here.fit)
        run.phase = [phase for phase in PHASES if there(here.folder, phase)][-1]
        wrong = told(here, run.code)
        subprocess.run(["mount", "-o", "remount,size=1g", str(here.folder)], check=True)
        wrong = wrong or finished(here, known)
        if wrong:
            shutil.copytree(here.folder, here.folder.with_name(f"{here.folder.name}-left"))
        return wrong
    finally:
        subprocess.run(["umount", "-l", str(here.folder)], check=True)


def read_while_changed(here: Place, known: Undisturbed, run: "Run", chance: random.Random) -> str | None:
    """Predict while a video goes or changes; the other rows stay."""
    folder = here.folder / "videos"
    with known.videos.open(newline="") as stream:
        files = [known.videos.parent / row["path"] for row in csv.DictReader(stream)]
    folder.mkdir()
    for file in files:
        shutil.copy(file, folder)
    victim = folder / chance.choice(files).name
    words = ["predict", "--ckpt_path", str(known.checkpoint), "--data.videos", "videos", "--output", "a.csv"]
    process = here.start(words)
    while not (here.folder / "cache/vqa-lightning/corpus.parquet").is_file() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(chance.random() * 2)
    if run.trouble == "gone":
        victim.unlink()
    else:
        os.truncate(victim, victim.stat().st_size // 2)
    run.code = ended(process, 300)
    if wrong := told(here, run.code):
        return wrong
    if run.code:
        return f"exit code {run.code}"
    found = rows_of(here.folder / "a.csv")
    others = {name for name in known.scores if name != victim.name}
    differs = [name for name in others if found.get(name) != known.scores[name]]
    if victim.name not in found:
        return f"no row of {victim.name}"
    return f"other rows of {', '.join(differs)}" if differs else None


@dataclass
class Run:
    """One run and what came of it.

    Attributes:
        number: from 0.
        trouble: what it meets.
        phase: in which, as it was found; before that as it was planned. Nothing: predict.
        code: with which the disturbed command ended.
        seconds: of all.
        wrong: what went wrong; None: nothing.
    """

    number: int
    trouble: str
    phase: str
    code: int | None = None
    seconds: float = 0.0
    wrong: str | None = None


def meet(run: Run, known: Undisturbed, options: argparse.Namespace) -> None:
    """Meet one trouble."""
    chance = random.Random(f"{options.seed} {run.number}")
    folder = options.root / f"run-{run.number}"
    labels = f"late://{folder / 'labels'}" if run.trouble == "late" else "labels"
    here = place(folder, known.videos, known.references, labels)
    do = {"room": without_room, "gone": read_while_changed, "changed": read_while_changed}
    began = time.monotonic()
    try:
        run.wrong = do.get(run.trouble, signalled)(here, known, run, chance)
    except Exception as error:
        run.wrong = f"{type(error).__name__}: {error}"
    run.seconds = round(time.monotonic() - began, 1)
    if run.wrong is None:
        shutil.rmtree(folder)
        here.log.unlink()
    print(run, file=sys.stderr, flush=True)


def show(runs: Sequence[Run]) -> None:
    """Print how many runs of each trouble ended in order, in all and by phase."""
    table = Table("trouble", "in order", *PHASES, title=f"{len(runs)} runs: in order of all")
    for trouble in TROUBLES:
        met = [run for run in runs if run.trouble == trouble]
        parts = [met, *([run for run in met if run.phase == phase] for phase in PHASES)]
        cells = [f"{sum(not run.wrong for run in part)} of {len(part)}" if part else "" for part in parts]
        table.add_row(trouble, *cells)
    Console(width=110).print(table)


def main() -> None:
    """Disturb, and print how many runs of each kind ended as undisturbed ones do."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=TROUBLES, default=list(TROUBLES))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("runs/chaos"), help="must not exist")
    options = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # else what runs behind a shell would not hear it
    options.root.mkdir(parents=True)
    options.root = options.root.resolve()
    known = undisturbed(options.root)
    print({name: round(lasted, 1) for name, (_, lasted) in known.phases.items()}, file=sys.stderr)
    plan = planned(options.runs, options.only, options.seed)
    runs = [Run(number, trouble, phase) for number, (trouble, phase) in enumerate(plan)]
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in as_completed([pool.submit(meet, run, known, options) for run in runs]):
            done.result()
            rows = [asdict(run) for run in runs if run.seconds]
            (options.root / "chaos.json").write_text(json.dumps(rows, indent=1))
    show(runs)
    raise SystemExit(any(run.wrong for run in runs))


if __name__ == "__main__":
    main()
