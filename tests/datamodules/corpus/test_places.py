"""Videos behind URLs: listed without being read, and read from a copy that does not stay."""

from pathlib import Path

import fsspec
import pytest

from datamodules.corpus import build_corpus
from datamodules.corpus.places import list_paths, local_copy
from datamodules.errors import InputError, UnreadableVideo
from datamodules.video import probe


@pytest.fixture
def bucket(mixed_corpus: Path) -> str:
    """A URL with two videos, a hidden one, a text and a manifest."""
    memory = fsspec.filesystem("memory")
    if memory.exists("/bucket"):
        memory.rm("/bucket", recursive=True)
    content = (mixed_corpus / "video-0.mp4").read_bytes()
    for name in ("b.mp4", "deep/a.mp4", ".hidden/c.mp4"):
        memory.pipe_file(f"/bucket/{name}", content)
    memory.pipe_file("/bucket/notes.txt", b"no video")
    memory.pipe_file("/bucket/list.csv", b"path\nb.mp4\ndeep/a.mp4\ns3://other/c.mp4\n")
    return "memory://bucket"


class TestLists:
    def test_of_local_videos_are_those_of_the_corpus(
        self, mixed_corpus: Path, own_cache: None, tmp_path: Path
    ) -> None:
        manifest = tmp_path / "list.csv"
        manifest.write_text(f"path\n{mixed_corpus}/video-1.mp4\nnone.mp4\n")
        for videos in (mixed_corpus, manifest, mixed_corpus / "video-[12].mp4", mixed_corpus / "video-3.mp4"):
            assert list_paths(str(videos)) == build_corpus(videos)["path"].to_pylist()

    def test_of_a_url_are_urls(self, bucket: str) -> None:
        both = ["memory:///bucket/b.mp4", "memory:///bucket/deep/a.mp4"]
        assert list_paths(bucket) == both
        assert list_paths(f"{bucket}/*.mp4") == both[:1]
        assert list_paths(f"{bucket}/b.mp4") == both[:1]

    def test_a_manifest_names_videos_beside_it_and_urls(self, bucket: str, tmp_path: Path) -> None:
        named = [f"{bucket}/b.mp4", f"{bucket}/deep/a.mp4", "s3://other/c.mp4"]
        assert list_paths(f"{bucket}/list.csv") == named
        (tmp_path / "list.csv").write_text("path\na.mp4\ns3://other/c.mp4\n")
        assert list_paths(str(tmp_path / "list.csv")) == [str(tmp_path / "a.mp4"), "s3://other/c.mp4"]

    @pytest.mark.parametrize(
        ("videos", "sentence"),
        [
            ("memory://nothing", "--data.videos memory://nothing names no video"),
            ("memory://nothing/list.csv", "The manifest memory://nothing/list.csv is missing."),
            ("nowhere://bucket", "--data.videos nowhere://bucket cannot be opened (Protocol not known"),
        ],
    )
    def test_of_nothing_are_one_sentence(self, videos: str, sentence: str) -> None:
        with pytest.raises(InputError) as refused:
            list_paths(videos)
        assert str(refused.value).startswith(sentence)

    def test_a_manifest_without_paths_is_named_as_it_was_given(self) -> None:
        fsspec.filesystem("memory").pipe_file("/other.csv", b"name\na.mp4\n")
        with pytest.raises(InputError, match=r"^The manifest memory://other\.csv must have a column path"):
            list_paths("memory://other.csv")


class TestCopies:
    def test_are_read_as_the_file_is_and_do_not_stay(self, bucket: str, mixed_corpus: Path) -> None:
        with local_copy(f"{bucket}/b.mp4") as file:
            assert probe(file).video_id == probe(mixed_corpus / "video-0.mp4").video_id
        assert not file.exists()
        with local_copy(f"file://{mixed_corpus}/video-0.mp4") as file:
            assert file.parent != mixed_corpus

    @pytest.mark.parametrize("place", ["memory://bucket/none.mp4", "file:///none.mp4"])
    def test_of_what_is_missing_there_are_none(self, place: str) -> None:
        with pytest.raises(UnreadableVideo, match=f"^{place} is missing"), local_copy(place):
            pass
