"""Checkpoints that hold what is trained and no more, and runs that go on as if they had not stopped.

Imports `datamodules` alone.
"""

from vqa_lightning.checkpoints.resumable import ResumableModule

__all__ = ["ResumableModule"]
