"""Pages to look at: what was scored, in one file without a network.

Imports `datamodules` and `vqa_lightning.metrics`.
"""
