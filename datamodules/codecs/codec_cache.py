"""Round trips of codecs kept on disk, so that each clip, codec and level is encoded once for all runs.

The cache keeps the bitstream and not the frames: the bitstream is a hundred times smaller, and decoding is
exact. An entry's name is a hash of all that the bitstream depends on, so that workers and ranks need no lock.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
from torch import Tensor

from datamodules.codecs.codec import Codec
from datamodules.errors import InputError
from datamodules.files import cache_folder

DIGEST_BYTES = 32


class CodecCache:
    """A folder of bitstreams, each behind the SHA-256 of its bytes; a damaged one is encoded anew.

    Args:
        folder: local or shared; by default `codecs` in `cache_folder()`. Made when first written to.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = cache_folder() / "codecs" if folder is None else Path(folder)

    def round_trip(self, codec: Codec, clip: Tensor, level: int, fps: float) -> Tensor:
        """Return `codec(clip, level, fps)`, bit for bit; encode only what no run has encoded before.

        Raises:
            InputError: as for the codec, or the folder cannot be read or written to.

        Example:
            >>> import tempfile, torch
            >>> clip = torch.randint(256, (4, 3, 48, 64), dtype=torch.uint8)
            >>> codec = Codec("low", "libx264", levels=(40, 50))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     found = [CodecCache(folder).round_trip(codec, clip, 1, 25) for _ in range(2)]
            >>> torch.equal(found[0], found[1])
            True
        """
        if not level:
            return codec(clip, level, fps)
        name = self._name(codec, clip, level, fps)
        entry = self.folder / name[:2] / name
        bitstream = self._read(entry)
        if bitstream is None:
            bitstream = codec.encode(clip, level, fps)
            self._write(entry, bitstream)
        return codec.decode(bitstream, clip.shape)

    def _name(self, codec: Codec, clip: Tensor, level: int, fps: float) -> str:
        # No build tells its encoders' releases; PyAV's wheels bring them along, other builds have FFmpeg's.
        builds = [av.__version__, av.ffmpeg_version_info]
        header = [codec.definition, level, fps, str(clip.dtype), list(clip.shape), builds]
        digest = hashlib.sha256(json.dumps(header).encode())
        digest.update(clip.contiguous().numpy().data)
        return digest.hexdigest()

    def _read(self, entry: Path) -> bytes | None:
        with self._in_use(), suppress(FileNotFoundError):
            content = entry.read_bytes()
            digest, bitstream = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
            if hashlib.sha256(bitstream).digest() == digest:
                return bitstream
        return None

    def _write(self, entry: Path, bitstream: bytes) -> None:
        hidden = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}")
        with self._in_use():
            entry.parent.mkdir(parents=True, exist_ok=True)
            try:
                hidden.write_bytes(hashlib.sha256(bitstream).digest() + bitstream)
                hidden.replace(entry)
            finally:
                hidden.unlink(missing_ok=True)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"The cache of encoded clips {self.folder} cannot be used ({error.strerror}); make room "
                "there or set XDG_CACHE_HOME to another folder."
            ) from error
