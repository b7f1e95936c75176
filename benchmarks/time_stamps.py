"""What is wrong with the time stamps of files, and what a probe costs beside opening the file and one frame.

    python benchmarks/time_stamps.py ../shared/data/clips/* ../shared/data/real/*

Prints a sentence for each file whose stamps are wrong, and one line of costs: CPU time of all files, the
median of the turns, as a ratio to opening each file and decoding its first frame.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from datamodules.errors import UnreadableVideo
from datamodules.video import probe
from datamodules.video.readers import FileReader

TURNS = 5


def open_alone(path: Path) -> None:
    """Open a file and decode its first frame."""
    with closing(FileReader(str(path))) as reader:
        next(reader.frames(), None)


def seconds(work: Callable[[Path], object], paths: Sequence[Path]) -> float:
    """Return the CPU time of some work on all files."""
    began = time.process_time()
    for path in paths:
        work(path)
    return time.process_time() - began


def main() -> None:
    """Probe the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    readable = []
    for path in parser.parse_args().files:
        try:
            remark = probe(path).remark
        except UnreadableVideo:
            continue
        readable.append(path)
        if remark:
            print(remark)
    ratios = []
    for _ in range(TURNS):
        alone = seconds(open_alone, readable)
        ratios.append(seconds(probe, readable) / alone)
    print(f"{len(readable)} files: a probe costs {statistics.median(ratios):.2f} times opening and one frame")


if __name__ == "__main__":
    main()
