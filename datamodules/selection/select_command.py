"""The command `select`: from a pool of videos to a manifest of those that are like a target.

Everything it measures is kept in the corpus's caches, so that another count or target costs seconds.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from rich.console import Console
from rich.table import Table

from datamodules.checks import check_least
from datamodules.corpus import build_corpus
from datamodules.corpus.manifest import MANIFESTS, read_manifest
from datamodules.errors import InputError
from datamodules.names import file_of, name_of, place_of
from datamodules.selection.corpus_metrics import METRICS, measure
from datamodules.selection.matching import Array, Selection, bin_edges, histograms, select

UNIFORM = "uniform"


@dataclass(frozen=True)
class Shares:
    """What values of a column of the pool's manifest make up.

    Args:
        parts: part of the chosen videos that each value makes up, such as {TikTok: .35, YouTube: .25}.
        column: name of the column.
    """

    parts: dict[str, float]
    column: str = "source"


def select_videos(
    videos: str,
    count: int,
    output: Path,
    target: str = UNIFORM,
    shares: Shares | None = None,
    bins: int = 10,
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Choose videos whose histograms of nine metrics match a target's, and write them as a manifest.

    Args:
        videos: the pool: a folder, file, glob or manifest.
        count: how many are chosen.
        output: the manifest to write, a .csv that --data.videos takes: the pool's columns and the metrics.
        target: videos to be like (folder, glob or manifest); or a .json file, metric to its histogram
            {"edges": [n + 1 numbers], "counts": [n numbers]}, with one n, where only the named metrics
            count; or uniform, as much in every bin.
        shares: what values of a column of the pool's manifest make up; null: nothing in particular.
        bins: bins of each histogram, where the target does not bring its own.
        seed: of the draw among videos that are alike to all histograms.
        workers: threads that read and measure; by default as many as there are cores.

    Raises:
        InputError: the input is wrong, too small for the count or without what the shares ask for, or the
            output cannot be written.
    """
    if output.suffix.lower() != ".csv":
        raise InputError(f"--output must be a .csv file; got {output}.")
    check_least("--bins", bins, 2)
    names: Sequence[str] = METRICS
    histogram = None
    if target != UNIFORM and Path(target).suffix.lower() == ".json":
        names, edges, histogram = _read_histograms(Path(target))
    manifest = _manifest_of(videos)
    labels = None if shares is None else _column(manifest, videos, shares.column)
    parts = None if shares is None else shares.parts

    pool = _measured(videos, workers)
    metrics = _matrix(pool, names)
    known: set[str] = set()
    for row, video_id in enumerate(pool["video_id"].to_pylist()):
        if video_id in known:
            metrics[row] = np.nan  # the same file twice is one candidate
        known.add(video_id)
    usable = np.flatnonzero(np.isfinite(metrics).all(axis=1))
    if not len(usable):
        raise InputError(f"--videos {videos} holds no video that can be measured; give others.")
    if histogram is None:
        wanted = None if target == UNIFORM else _finite(_matrix(_measured(target, workers), names), target)
        edges = bin_edges(metrics[usable], wanted, bins)
        histogram = np.full((len(names), bins), 1 / bins) if wanted is None else histograms(wanted, edges)

    chosen = select(metrics, count, edges=edges, target=histogram, labels=labels, shares=parts, seed=seed)
    _write(manifest if manifest is not None else pool.select(["path"]), pool, chosen, output)
    drawn = np.random.default_rng(seed).choice(usable, count, replace=False)
    _print(names, np.abs(histograms(metrics[drawn], edges) - histogram).sum(axis=1), chosen)
    Console().print(f"{count} of {len(usable)} videos are in {output}.", highlight=False)


def _measured(videos: str, workers: int | None) -> pa.Table:
    return measure(build_corpus(videos, workers=workers), workers=workers)


def _matrix(corpus: pa.Table, names: Sequence[str]) -> Array:
    """Return metrics (videos, names); NaN where a video has none."""
    columns = [corpus[name].to_numpy(zero_copy_only=False) for name in names]
    matrix: Array = np.column_stack(columns).astype(np.float64)
    return matrix


def _finite(metrics: Array, target: str) -> Array:
    rows = metrics[np.isfinite(metrics).all(axis=1)]
    if not len(rows):
        raise InputError(f"--target {target} holds no video that can be measured; give others.")
    return rows


def _read_histograms(path: Path) -> tuple[list[str], Array, Array]:
    """Return names, inner edges (names, n - 1) and shares (names, n) of a target in JSON."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        edges = np.array([entry["edges"] for entry in told.values()], dtype=np.float64)
        counts = np.array([entry["counts"] for entry in told.values()], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'--target {path} is not a table of histograms; write {{"contrast": {{"edges": [0, 40, 80], '
            '"counts": [1, 2]}, ...}, with as many bins for every metric.'
        ) from error
    unknown = [name for name in told if name not in METRICS]
    if unknown or not told:
        raise InputError(
            f"--target {path} names {', '.join(unknown) or 'no metric'}; choose among {', '.join(METRICS)}."
        )
    if edges.shape[1] != counts.shape[1] + 1 or (np.diff(edges) <= 0).any() or (counts < 0).any():
        raise InputError(
            f"--target {path} has edges that do not rise or do not enclose its counts; correct it."
        )
    totals = counts.sum(axis=1, keepdims=True)
    if not (totals > 0).all():
        raise InputError(f"--target {path} has a histogram without any count; leave that metric out.")
    return list(told), edges[:, 1:-1], counts / totals


def _manifest_of(videos: str) -> pa.Table | None:
    path = place_of(videos)
    is_manifest = path.is_file() and path.suffix.lower() in MANIFESTS
    return read_manifest(path) if is_manifest else None


def _column(manifest: pa.Table | None, videos: str, name: str) -> list[str]:
    if manifest is None or name not in manifest.column_names:
        raise InputError(
            f"--shares.column must be a column of --videos; got {name!r}, which {videos} does not have."
        )
    return [str(value) for value in manifest[name].to_pylist()]


def _write(listed: pa.Table, pool: pa.Table, chosen: Selection, output: Path) -> None:
    """Write the chosen rows: paths relative to the manifest where they lie below it, else absolute."""
    rows = listed.take(chosen.indices).drop_columns([n for n in METRICS if n in listed.column_names])
    folder = output.absolute().parent
    paths = [file_of(path).absolute() for path in pool["path"].take(chosen.indices).to_pylist()]
    texts = [name_of(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in paths]
    rows = rows.set_column(rows.schema.get_field_index("path"), "path", pa.array(texts, pa.string()))
    for name in METRICS:
        rows = rows.append_column(name, pool[name].take(chosen.indices))
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as stream:  # Arrow knows names in UTF-8 alone
            pa.csv.write_csv(rows, stream)
        os.replace(unfinished, output)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(
            f"--output {output} cannot be written ({error.strerror}); name another place."
        ) from error


def _print(names: Sequence[str], drawn: Array, chosen: Selection) -> None:
    table = Table("metric", "random", "chosen", title="Differences from the target")
    for name, before, after in zip(names, drawn, chosen.differences, strict=True):
        table.add_row(name, f"{before:.3f}", f"{after:.3f}")
    table.add_section()
    table.add_row("all", f"{drawn.sum():.3f}", f"{chosen.differences.sum():.3f}")
    console = Console()
    console.print(table)
    console.print(
        f"(absolute differences of shares, summed over bins; no choice gets below {chosen.bound:.3f} in all)",
        highlight=False,
    )
    if chosen.left_out:
        console.print(f"{chosen.left_out} unreadable or repeated rows are left out.", highlight=False)
