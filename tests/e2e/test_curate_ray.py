"""`curate --engine ray` and `near_duplicates` on real local clusters, one of whose machines dies."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from datamodules.corpus import group_files
from datamodules.corpus.duplicates import FRAMES, group_hashes
from vqa_lightning.cli import main
from vqa_lightning.ray import engine, hashes, near_duplicates, parts

ray = pytest.importorskip("ray", reason="Ray Data is not installed (extra ray)")
pytest.importorskip("ray.data", reason="Ray Data is not installed (extra ray)")


def curate(scores: Path | str, *words: str) -> None:
    main(["curate", str(scores), "--dedupe", *words])


@pytest.fixture
def scores(here: Path, videos: Path) -> Path:
    """Of four videos, a copy of each, one that cannot be read, and one that is not there."""
    files = sorted(videos.iterdir())
    for file in files:
        shutil.copy(file, videos / f'copy "of" {file.name}')
    (videos / "broken.mp4").write_bytes(b"no video")
    with (here / "scores.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("path", "score"))
        for place, file in enumerate([*sorted(videos.iterdir()), videos / "gone.mp4"]):
            rows.writerow((file.relative_to(here), place))
    return here / "scores.csv"


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestFiles:
    def test_are_those_of_threads(self, here: Path, scores: Path) -> None:
        for reader in (readers := ("threads", "ray")):
            (here / reader).mkdir()
            curate("scores.csv", f"--engine={reader}", f"--output={reader}/kept.csv")
        for name in ("kept.csv", "kept.dropped.csv"):
            one, other = ((here / reader / name).read_text() for reader in readers)
            assert other == one
        kept = pa.csv.read_csv(here / "ray" / "kept.csv")
        assert len(kept) == 4
        told = pa.csv.read_csv(here / "ray" / "kept.dropped.csv")["reason"].to_pylist()
        assert sum(reason.startswith("near duplicate of ") for reason in told) == 4
        assert sum(reason.startswith("unreadable: videos/") for reason in told) == 2

    def test_a_second_start_reads_only_what_had_no_hash(
        self,
        here: Path,
        scores: Path,
        videos: Path,
        refused: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        curate("scores.csv", "--engine=ray")
        first = pa.csv.read_csv(here / "kept.csv")["path"].to_pylist()
        good = [file for file in videos.iterdir() if file.name != "broken.mp4"]
        shutil.copy(videos / "video-0.mp4", videos / "gone.mp4")
        for file in good:
            file.write_bytes(b"who reads this reads no video")
        curate("scores.csv", "--engine=ray")
        rows = {Path(row["path"]).name: row for row in pq.read_table(here / "kept.hashes").to_pylist()}
        assert len(rows) == len(good) + 2
        assert [name for name, row in rows.items() if row["status"] == "error"] == ["broken.mp4"]
        assert rows["gone.mp4"]["hash"] == rows["video-0.mp4"]["hash"]
        kept = pa.csv.read_csv(here / "kept.csv")["path"].to_pylist()
        assert kept == ["videos/gone.mp4", *first[:3]]  # the best copy of the video that was the last
        # From another folder the same names are other files, of which there is none.
        (here / "other").mkdir()
        monkeypatch.chdir(here / "other")
        words = ["curate", "../scores.csv", "--dedupe", "--engine=ray", "--output=../kept.csv"]
        assert refused(main, words).startswith(
            "Not one of the 10 rows of ../scores.csv stays (10 unreadable;"
        )

    def test_may_lie_behind_urls(self, here: Path, scores: Path, videos: Path) -> None:
        store = fsspec.filesystem("memory")
        table = pa.csv.read_csv(scores)
        far = pc.binary_join_element_wise(f"file://{here}", table["path"], "/")
        table = table.set_column(0, "path", far)
        for number, some in enumerate((table.slice(0, 3), table.slice(3))):
            with store.open(f"/far/scores/part-{number}.parquet", "wb") as stream:
                pq.write_table(some, stream)
        store.pipe_file("/far/list.csv", f"path,content\nfile://{videos}/video-0.mp4,a\n".encode())
        more = ("--manifest=memory://far/list.csv", "--per=content", "--most=1")
        curate("memory://far/scores", "--engine=ray", "--output=memory://far/kept.parquet", *more)
        kept = pq.read_table(store.open("/far/kept.parquet"))
        assert [Path(path).name for path in kept["path"].to_pylist()] == ["video-3.mp4", "video-0.mp4"]
        assert kept["content"].to_pylist() == [None, "a"]
        dropped = pq.read_table(store.open("/far/kept.dropped.parquet")).to_pylist()
        told = {row["path"]: row["reason"] for row in dropped}
        broken = f"file://{videos}/broken.mp4"
        assert told[broken].startswith(f"unreadable: {broken} ")
        assert told[f"file://{videos}/gone.mp4"] == f"unreadable: file://{videos}/gone.mp4 is missing."
        assert not [name for name in store.find("/far") if name.endswith(".tmp")]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestGroups:
    def test_of_a_pipeline_of_ones_own(self, here: Path, scores: Path, videos: Path) -> None:
        paths = pa.array(sorted(map(str, videos.iterdir())))
        blocks = [pa.table({"path": [path], "mine": [1]}) for path in paths.to_pylist()]
        rows = {row["path"]: row for row in near_duplicates(ray.data.from_arrow(blocks)).take_all()}
        wanted, failed = group_files(paths)
        groups = np.array([rows[path]["group"] for path in paths.to_pylist()])
        assert ((groups[:, None] == groups) == (wanted[:, None] == wanted)).all()
        assert [rows[path]["error"] for path in paths.to_pylist()] == [
            failed.get(place, "") for place in range(len(paths))
        ]

    def test_of_many_hashes_are_those_of_one_process(self, here: Path) -> None:
        generator = np.random.default_rng(0)
        bits = generator.integers(0, 256, (3000, FRAMES, 32), dtype=np.uint8)
        bits[1000:2000] = bits[:1000]
        bits[1000:1500, :, 0] ^= generator.integers(0, 2, (500, FRAMES), dtype=np.uint8)
        seen = np.ones((len(bits), FRAMES), dtype=bool)
        found = hashes._groups((bits, seen))
        assert (found == group_hashes(bits, seen)).all()
        assert len(np.unique(found)) == 2000


@pytest.mark.slow
class TestDeath:
    def test_a_machine_that_dies_in_the_middle_loses_and_repeats_nothing(
        self, here: Path, scores: Path, videos: Path, two_machines: Any, one_dies: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        files = [file for file in sorted(videos.iterdir()) if file.name.startswith("video")]
        rows = [["path", "score"]]
        for number in range(40):
            copy = videos / f"more-{number:02}.mp4"
            shutil.copy(files[number % len(files)], copy)
            rows.append([f"videos/{copy.name}", str(number)])
        rows.append(["videos/broken.mp4", "50"])
        (here / "many.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
        curate("many.csv", "--output=one.csv")
        monkeypatch.setattr(parts, "PART_ROWS", 1)
        monkeypatch.setattr(engine, "BLOCK", 1)
        ray.init(address=two_machines.address, log_to_driver=False, logging_level="ERROR")
        with one_dies(here / "two.hashes", 0) as before:
            curate("many.csv", "--engine=ray", "--output=two.csv")
        assert before[0] < 36
        assert (here / "two.csv").read_bytes() == (here / "one.csv").read_bytes()
        assert (here / "two.dropped.csv").read_bytes() == (here / "one.dropped.csv").read_bytes()
        kept = pq.read_table(here / "two.hashes")["path"].to_pylist()
        assert len(kept) == len(set(kept)) == 41


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--keep=0.5", "--engine=ray"], "--engine ray is for --dedupe: without it no video is read."),
            (["--dedupe", "--engine=spark"], "--engine must be one of threads, ray; got 'spark'."),
            (
                ["--dedupe", "--engine=ray", "--output=nowhere://kept.csv"],
                "--output nowhere://kept.csv cannot be opened",
            ),
            (["--dedupe", "--manifest=memory://none.csv"], "--manifest memory://none.csv is missing."),
            (
                ["--dedupe", "--output=memory://kept.txt"],
                "The suffix of --output memory://kept.txt must be one of .csv, .parquet",
            ),
        ],
    )
    def test_are_one_sentence(
        self, here: Path, refused: Callable[..., str], words: list[str], sentence: str
    ) -> None:
        (here / "scores.csv").write_text("path,score\na.mp4,1\n")
        assert sentence in refused(main, ["curate", "scores.csv", *words])
        assert {file.name for file in here.iterdir()} <= {"scores.csv", "cache"}
