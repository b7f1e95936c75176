"""A corpus chosen by its scores, through the real command line."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.corpus import build_corpus, videos
from vqa_lightning.cli import main

HEADER = "path,score,stderr,status,error,model\n"

ODD = "<img src=x onerror=alert(1)> \"'&.mp4"


def write(path: Path, rows: Sequence[Sequence[object]], header: str = HEADER) -> None:
    with path.open("w", newline="") as stream:
        stream.write(header)
        csv.writer(stream, lineterminator="\n").writerows(rows)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def reasons(file: Path) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in rows_of(file)}


@pytest.fixture
def scores(here: Path) -> Path:
    """Ten rows: eight scores of 10 to 80, the odd name best; one that could not be read; one that is NaN."""
    good = [(f"v/{score}.mp4", float(score), 2.0, "ok", "", "m") for score in range(10, 80, 10)]
    bad = [
        ("v/bad.mp4", "", "", "error", "v/bad.mp4 is <b>missing</b>.", "m"),
        ("v/nan.mp4", "nan", "nan", "ok", "", "m"),
    ]
    write(here / "scores.csv", [*good, (f"v/{ODD}", 80.0, 2.0, "ok", "", "m"), *bad])
    return here / "scores.csv"


class TestChoice:
    def test_every_row_stays_or_has_its_reason(
        self, here: Path, scores: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["curate", "scores.csv", "--keep", "0.6", "--above", "30", "--report", "page.html"])
        assert [row["path"] for row in rows_of(here / "kept.csv")] == [
            f"v/{name}" for name in (ODD, "70.mp4", "60.mp4", "50.mp4")
        ]
        assert reasons(here / "kept.dropped.csv") == {
            "v/40.mp4": "below the share kept",
            "v/30.mp4": "below the share kept",
            "v/20.mp4": "below 30",
            "v/10.mp4": "below 30",
            "v/bad.mp4": "unreadable: v/bad.mp4 is <b>missing</b>.",
            "v/nan.mp4": "no score",
        }
        kept = (here / "kept.csv").read_text().splitlines()
        assert kept == [
            HEADER.strip(),
            *(line for line in reversed(scores.read_text().splitlines()) if line in kept[1:]),
        ]
        told = capsys.readouterr().out
        assert "kept.csv: 4 rows; kept.dropped.csv: 6 rows" in told
        assert max(map(len, told.splitlines())) <= 80
        page = (here / "page.html").read_text()
        assert "<img src=x" not in page
        assert "<b>missing" not in page
        assert "&lt;img src=x" in page
        assert "4 videos stay" in " ".join(page.split())
        assert page.count("below the share kept") == 3  # twice with its row, once in the count

    def test_the_same_rows_in_another_order_give_the_same_files(self, here: Path, scores: Path) -> None:
        main(["curate", "scores.csv", "--keep=0.5", "--output=a.csv"])
        header, *lines = scores.read_text().splitlines()
        scores.write_text("\n".join([header, *lines[::-1]]) + "\n")
        main(["curate", "scores.csv", "--keep=0.5", "--output=b.csv"])
        for suffix in (".csv", ".dropped.csv"):
            assert (here / f"a{suffix}").read_bytes() == (here / f"b{suffix}").read_bytes()

    def test_parquet_and_json_lines_say_the_same(self, here: Path, scores: Path) -> None:
        numbers = ("score", "stderr")
        rows = [
            {
                name: (float(cell) if cell not in ("", "nan") else None) if name in numbers else cell
                for name, cell in row.items()
            }
            for row in rows_of(scores)
        ]
        (here / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        main(["curate", "scores.jsonl", "--most", "3", "--output", "kept.parquet"])
        main(["curate", "kept.parquet", "--keep", "1", "--most", "9", "--output", "again.csv"])
        main(["curate", "scores.csv", "--most", "3"])
        assert pq.read_schema(here / "kept.parquet").field("score").type == "double"
        assert (here / "again.csv").read_bytes() == (here / "kept.csv").read_bytes()

    def test_one_row_is_enough(self, here: Path) -> None:
        write(here / "scores.csv", [("a.mp4", 50, 1, "ok", "", "m")])
        main(["curate", "scores.csv", "--keep=0.1"])
        assert len(rows_of(here / "kept.csv")) == 1
        assert not reasons(here / "kept.dropped.csv")

    def test_another_column_ranks_and_scores_of_another_tool_do(self, here: Path) -> None:
        write(
            here / "other.csv", [("a.mp4", 0.1, 9), ("b.mp4", "", ""), ("c.mp4", 3, 4)], "path,error,worst\n"
        )
        main(["curate", "other.csv", "--keep=0.5", "--column=worst", "--report=page.html"])
        assert [row["path"] for row in rows_of(here / "kept.csv")] == ["a.mp4"]
        assert rows_of(here / "kept.csv")[0]["error"] == "0.1"  # a column that means something else there
        assert reasons(here / "kept.dropped.csv") == {"c.mp4": "below the share kept", "b.mp4": "no score"}


class TestContents:
    def test_of_a_manifest_each_have_their_share(self, here: Path, scores: Path) -> None:
        (here / "lists").mkdir()
        contents = {"10": "007", "20": "007", "30": "007", "40": "b", "50": "b", "60": "b"}
        rows = [(f"../v/{name}.mp4", content, "train") for name, content in contents.items()]
        write(here / "lists" / "all.csv", rows, "path,content,split\n")
        words = ["curate", "scores.csv", "--keep=0.5", "--per=content", "--manifest=lists/all.csv"]
        main([*words, "--output=lists/kept.csv"])
        kept = {row["path"]: row["content"] for row in rows_of(here / "lists/kept.csv")}
        odd = {f"../v/{ODD}": ""}
        assert kept == {
            **odd,
            "../v/60.mp4": "b",
            "../v/50.mp4": "b",
            "../v/30.mp4": "007",
            "../v/20.mp4": "007",
        }
        told = reasons(here / "lists/kept.dropped.csv")
        assert told["../v/10.mp4"] == "below the share kept of 007"
        assert told["../v/70.mp4"] == "below the share kept of no content"

    def test_another_set_is_one_sentence(self, here: Path, scores: Path, refused: Callable[..., str]) -> None:
        write(here / "m.csv", [("other.mp4", "a")], "path,content\n")
        words = ["curate", "scores.csv", "--keep=0.5", "--per=content"]
        assert "--per must be a column of scores.csv; got 'content'" in refused(main, words)
        assert "--manifest m.csv has none of the files" in refused(main, [*words, "--manifest=m.csv"])


class TestBehindUrls:
    def test_parts_and_manifest_are_read_and_files_are_written_whole(self, here: Path) -> None:
        store = fsspec.filesystem("memory")
        rows = pa.table({"path": ["a.mp4", "s3://b/b.mp4", "/c.mp4"], "score": [30.0, 20.0, 10.0]})
        for number in range(3):
            with store.open(f"/away/scores/part-{number}.parquet", "wb") as stream:
                pq.write_table(rows.slice(number, 1), stream)
        store.pipe_file("/away/list.csv", b"path,content\ns3://b/b.mp4,two\nclips/c.mp4,three\n")
        output, manifest = "memory://away/kept.csv", "memory://away/list.csv"
        main(["curate", "memory://away/scores", "--most=2", f"--manifest={manifest}", f"--output={output}"])
        kept = store.cat_file("/away/kept.csv").decode().splitlines()
        assert kept == ["path,score,content", f"{here}/a.mp4,30.0,", "s3://b/b.mp4,20.0,two"]
        dropped = store.cat_file("/away/kept.dropped.csv").decode().splitlines()
        assert dropped[1:] == ["/c.mp4,10.0,,below the 2 kept"]
        assert sorted(Path(name).name for name in store.ls("/away", detail=False)) == [
            "kept.csv", "kept.dropped.csv", "list.csv", "scores",
        ]  # fmt: skip

    def test_a_manifest_gives_paths_from_its_own_folder(self, here: Path) -> None:
        write(here / "scores.csv", [("memory://own/clips/c.mp4", 1, 1, "ok", "", "m")])
        fsspec.filesystem("memory").pipe_file("/own/list.csv", b"path,content\nclips/c.mp4,three\n")
        main(["curate", "scores.csv", "--most=1", "--manifest=memory://own/list.csv"])
        assert rows_of(here / "kept.csv")[0]["content"] == "three"

    def test_names_are_no_patterns(self, here: Path) -> None:
        store = fsspec.filesystem("memory")
        store.pipe_file("/odd/list[1]*.csv", b"path,score\n/a.mp4,1\n")
        with store.open("/odd/part[2]/more/part-0.parquet", "wb") as stream:
            pq.write_table(pa.table({"path": ["/b.mp4"], "score": [1.0]}), stream)
        for place, path in (("list[1]*.csv", "/a.mp4"), ("part[2]", "/b.mp4"), ("part[2]/", "/b.mp4")):
            main(["curate", f"memory://odd/{place}", "--most=1"])
            assert [row["path"] for row in rows_of(here / "kept.csv")] == [path]

    def test_a_name_is_the_files_own(self, here: Path) -> None:
        (here / r"a\x41.csv").write_text("path,score\n/a.mp4,1\n")
        main(["curate", r"a\x41.csv", "--most=1"])
        assert rows_of(here / "kept.csv") == [{"path": "/a.mp4", "score": "1.0"}]

    @pytest.mark.parametrize("output", ["file://{here}/scores.csv", "file://{here}/./scores.csv"])
    def test_an_input_is_not_written_over(
        self, here: Path, scores: Path, refused: Callable[..., str], output: str
    ) -> None:
        before = scores.read_bytes()
        words = ["curate", "scores.csv", "--most=1", f"--output={output.format(here=here)}"]
        assert "would write over scores.csv: name another file" in refused(main, words)
        assert scores.read_bytes() == before

    def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(
        self, here: Path, scores: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forbidden(*_: object, **__: object) -> None:
            raise RuntimeError("403: forbidden")

        monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", forbidden)
        told = refused(main, ["curate", "scores.csv", "--most=1", "--output=memory://closed/kept.csv"])
        assert told.startswith("--output memory://closed/kept.csv cannot be written (403: forbidden): name")


class TestDuplicates:
    def test_the_best_of_a_group_stays_and_a_second_run_reads_nothing(
        self, here: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = sorted(videos.glob("*.mp4"))
        copy = videos / ODD
        shutil.copy(files[0], copy)
        (videos / "broken.mp4").write_bytes(b"no video")
        names = [file.relative_to(here) for file in (*files, copy, videos / "broken.mp4")]
        write(here / "scores.csv", [(name, place, 1, "ok", "", "m") for place, name in enumerate(names)])
        main(["curate", "scores.csv", "--dedupe"])
        assert [row["path"] for row in rows_of(here / "kept.csv")] == [
            f"videos/{ODD}",
            *map(str, names[3:0:-1]),
        ]
        told = reasons(here / "kept.dropped.csv")
        assert told[str(names[0])] == f"near duplicate of videos/{ODD}"
        assert told["videos/broken.mp4"].startswith("unreadable: videos/broken.mp4 ")

        def read(*_: object) -> None:
            raise AssertionError("a file was read again")

        (videos / "broken.mp4").unlink()
        monkeypatch.setattr("datamodules.corpus.duplicates.hash_video", read)
        main(["curate", "scores.csv", "--dedupe", "--output", "again.csv"])
        assert (here / "again.csv").read_bytes() == (here / "kept.csv").read_bytes()
        assert reasons(here / "again.dropped.csv")["videos/broken.mp4"].endswith("is missing.")

    def test_of_real_clips_and_the_manifest_is_one_that_data_videos_takes(
        self, here: Path, clips_folder: Path
    ) -> None:
        files = sorted(clips_folder.iterdir())
        write(here / "scores.csv", [(file, 50, 1, "ok", "", "m") for file in files])
        (here / "chosen").mkdir()
        main(["curate", "scores.csv", "--dedupe", "--output=chosen/kept.csv", "--report=page.html"])
        told = {
            Path(path).name: Path(reason).name
            for path, reason in reasons(here / "chosen/kept.dropped.csv").items()
        }
        assert told == {
            "Seeking_30_480_1050.mp4": "Seeking_10_288_375.mp4",
            "carphone_pristine.mp4": "carphone_distorted.mp4",
        }
        found = videos_of(here / "chosen/kept.csv")
        assert found == {file.name for file in files} - set(told)
        assert (here / "page.html").read_text().count("data:image/jpeg") == len(found)


def videos_of(manifest: Path) -> set[str]:
    return {Path(video.path).name for video in videos(build_corpus(manifest, progress=False))}


GOOD = f"{HEADER}a.mp4,1,1,ok,,m\n"


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "words", "sentence"),
        [
            (None, ["--keep=0.5"], "scores.csv does not exist"),
            ("", ["--keep=0.5"], "scores.csv cannot be read (it is empty)"),
            (HEADER, ["--keep=0.5"], "scores.csv has no row"),
            ("name,mos\na,1\n", ["--keep=0.5"], "scores.csv must have a column path; got name, mos."),
            ("path,mos\na,1\n", ["--keep=0.5"], "--column must be a column of scores.csv; got 'score'"),
            (
                f"{HEADER}a.mp4,low,1,ok,,m\n",
                ["--keep=0.5"],
                "The column score of scores.csv must hold numbers",
            ),
            (
                f"{HEADER}a.mp4,nan,nan,ok,,m\n",
                ["--keep=0.5"],
                "Not one of the 1 rows of scores.csv stays (1 no score; such as a.mp4: no score).",
            ),
            (f"{HEADER}a.mp4,1,1,ok\n", ["--keep=0.5"], "scores.csv cannot be read"),
            (f"{GOOD}./a.mp4,2,1,ok,,m\n", ["--keep=0.5"], "scores.csv must have each path once"),
            (
                f"{HEADER},1,1,ok,,m\n",
                ["--keep=0.5"],
                "scores.csv must have a path in each row; got none in 1 of 1",
            ),
            (f"{GOOD}b.mp4,2,1,ok,,n\n", ["--keep=0.5"], "scores.csv has scores of 2 models"),
            (GOOD, [], "curate must be told what stays"),
            (GOOD, ["--keep=60"], "--keep must be a share above 0 and at most 1; got 60.0."),
            (GOOD, ["--above=2"], "Not one of the 1 rows of scores.csv stays (1 below 2; such as"),
            (GOOD, ["--dedupe"], "Not one of the 1 rows of scores.csv stays (1 unreadable; such as a.mp4: "),
            (GOOD, ["--above=0", "--column=status"], "The column status of scores.csv must hold numbers"),
            ("path,p5\na,1\n", ["--above=0", "--column=p5", "--confidence=0.9"], "a column p5_stderr"),
            (GOOD, ["--above=1", "--per=content"], "--per content needs a share or a number to keep"),
            (GOOD, ["--keep=0.5", "--output=scores.csv"], "--output scores.csv would write over scores.csv"),
            (
                GOOD,
                ["--keep=0.5", "--output=a.txt"],
                "The suffix of --output a.txt must be one of .csv, .parquet",
            ),
            (GOOD, ["--keep=0.5", "--report=a.pdf"], "The suffix of --report a.pdf must be one of .html"),
            (GOOD, ["--keep=0.5", "--output=no/a.csv"], "is in a folder that does not exist"),
            (GOOD, ["--keep=most"], "--keep must be a number; got most."),
        ],
    )
    def test_is_one_sentence_and_nothing_is_written(
        self, here: Path, refused: Callable[..., str], text: str | None, words: list[str], sentence: str
    ) -> None:
        if text is not None:
            (here / "scores.csv").write_text(text)
        assert sentence in refused(main, ["curate", "scores.csv", *words])
        assert {file.name for file in here.iterdir()} <= {"scores.csv", "cache"}
        assert text is None or (here / "scores.csv").read_text() == text

    def test_a_cluster_without_ray_is_one_sentence(
        self, here: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vqa_lightning.ray.pipeline.find_spec", lambda name: None)
        (here / "scores.csv").write_text(GOOD)
        told = refused(main, ["curate", "scores.csv", "--dedupe", "--engine=ray"])
        assert told == "Ray Data is not installed: pip install 'vqa-lightning[ray]'."

    @pytest.mark.parametrize(
        ("place", "sentence"),
        [
            ("memory://nowhere/scores", "The file of scores memory://nowhere/scores is missing."),
            ("memory://bad/scores.parquet", "memory://bad/scores.parquet cannot be read"),
            ("memory://bad/other.csv", "memory://bad/other.csv must have a column path; got mos."),
            ("nowhere://scores", "The file of scores nowhere://scores cannot be opened"),
        ],
    )
    def test_behind_a_url_is_named_as_it_was_given(
        self, here: Path, refused: Callable[..., str], place: str, sentence: str
    ) -> None:
        store = fsspec.filesystem("memory")
        store.pipe({"/bad/scores.parquet": b"no table", "/bad/other.csv": b"mos\n1\n"})
        assert refused(main, ["curate", place, "--keep=0.5"]).startswith(sentence)
