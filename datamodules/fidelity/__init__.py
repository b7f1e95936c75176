"""How near a clip comes to its source: full-reference metrics, on tensors alone.

Imports only `datamodules.errors`, `datamodules.checks`, `datamodules.devices` and `datamodules.video`.
"""

from typing import Literal

from datamodules.fidelity.gmsd import gmsd
from datamodules.fidelity.ms_ssim import structural_similarity
from datamodules.fidelity.ssim import ssim
from datamodules.fidelity.vmaf import vmaf
from datamodules.fidelity.xpsnr import xpsnr

Metric = Literal["vmaf", "vmaf_neg", "ssim", "gmsd"]
"""Full-reference metrics that label versions."""

__all__ = ["Metric", "gmsd", "ssim", "structural_similarity", "vmaf", "xpsnr"]
