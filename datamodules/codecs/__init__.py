"""Real encoders as simulators of known severity: a clip is encoded and decoded in memory, in a worker.

Imports only `datamodules.errors`, `datamodules.checks` and `datamodules.files`.
"""

from datamodules.codecs.codec import CODECS, Codec
from datamodules.codecs.codec_cache import CodecCache

__all__ = ["CODECS", "Codec", "CodecCache"]
