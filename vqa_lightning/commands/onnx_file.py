"""A scorer as one ONNX file: the graph of the pointwise score, and in its metadata which frames it is shown.

Whoever has the file and an ONNX runtime needs nothing of this package. It is compared with the model that it
was made of before it gets its name.
"""

import json
import logging
import os
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from datamodules.errors import InputError
from datamodules.files import hidden_beside
from datamodules.video.decoding import drawn_places
from vqa_lightning.annotators.scorer import model_name
from vqa_lightning.commands.onnx_graph import ScoreGraph
from vqa_lightning.training import RankingModule

OPSET = 20
"""The first with GELU; onnxruntime 1.17 and later have it."""

METADATA = "vqa_lightning"
"""Key of the metadata."""

TOLERANCE = 1e-4
"""Of a score, between the file and the model, where raw scores of the corpus deviate by 1 or more."""

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_exportable(module: RankingModule) -> None:
    """Refuse a model whose score is no graph of fixed arithmetic.

    Raises:
        InputError: the model is a published one, scores by comparisons, or looks at clips by what ONNX does
            not compute as torch does; or a package is missing.
    """
    lmm = module.lmm_config
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"--format onnx needs {', '.join(missing)}, which is not installed: "
            "pip install 'vqa-lightning[onnx]'."
        )
    if lmm.pretrained is not None:
        raise InputError(
            f"--format onnx takes the embedded model; got {lmm.pretrained}: "
            "leave out --format, and serve what transformers loads."
        )
    if module.score_by != "pointwise":
        raise InputError(
            f"--format onnx takes a checkpoint that scores pointwise; got model.score_by {module.score_by}, "
            "which compares with anchors."
        )
    if lmm.motion not in (None, "differences"):
        raise InputError(f"--format onnx takes model.lmm.motion differences or null; got {lmm.motion}.")
    if lmm.pictures:
        family, view, whole = lmm.embedded.family, module.lmm.view, module.score_sampling.window is None
        if family == "qwen3_vl" or whole or view not in ("crop", "fragments"):
            raise InputError(
                "--format onnx takes model.lmm.pictures true with native views of windows alone, and not of "
                f"qwen3_vl; got {family}, model.lmm.view {view} and {'whole frames' if whole else 'windows'}."
            )


def write_onnx(module: RankingModule, output: Path) -> float:
    """Write a scorer as an ONNX file.

    Args:
        module: that `check_exportable` accepts, on the CPU; it cannot score afterwards.
        output: the file to write.

    Returns:
        The largest difference between scores of the file and of the model, on clips of noise.

    Raises:
        OSError: the file cannot be written.
        RuntimeError: the file scores otherwise than the model.
    """
    import onnx
    import onnxruntime

    samples = [_noise(module, *size) for size in ((1, 90, 161), (3, 128, 95))]
    with torch.no_grad():
        wanted = [module.published(module.rate(clips / 255), module.scale[:1])[0] for clips in samples]
    metadata = json.dumps(scoring_rule(module))
    tolerance = TOLERANCE / min(1.0, module.scale[1].item())
    program = _exported(ScoreGraph(module).eval(), samples[1])
    program.model.metadata_props[METADATA] = metadata
    hidden = hidden_beside(output)
    try:
        program.save(hidden)
        onnx.checker.check_model(hidden, full_check=True)
        session = onnxruntime.InferenceSession(hidden, providers=["CPUExecutionProvider"])
        found = [torch.from_numpy(session.run(None, {"frames": clips.numpy()})[0]) for clips in samples]
        difference = max((a - b).abs().max().item() for a, b in zip(found, wanted, strict=True))
        if not difference <= tolerance:
            raise RuntimeError(f"onnxruntime scores noise otherwise than torch, by {difference:.1e}.")
        os.replace(hidden, output)
    finally:
        hidden.unlink(missing_ok=True)
    return difference


def scoring_rule(module: RankingModule) -> Mapping[str, Any]:
    """Return what the graph does not know: which clips of a video are scored, and what becomes of the scores.

    Returns:
        As JSON has it: `model`; `segments`, `frames`, `spacing` and `window` of the sampling; for each draw
        where its window and its segments lie (`datamodules.video.decoding.drawn_places`); `starts`, (draws,
        segments, 2): when each segment begins, as a part of the duration and so many frames, null where
        segments have a spacing; `factor` and `floor` of the standard error, sqrt((factor * spread)^2 +
        floor^2), in the unit of the score; the corpus's `quantiles` from 0 to 100 %, null where they are not
        known.
    """
    sampling = module.score_sampling
    _, deviation, factor, floor = module.scale.cpu().double().tolist()
    quantiles = module.quantiles.cpu().double().tolist()
    draws = [drawn_places(draw, sampling.segments) for draw in range(module.scoring.draws)]
    starts = [
        [[(index + place) / sampling.segments, -sampling.frames * place] for index, place in enumerate(one)]
        for _, one in draws
    ]
    return {
        "model": model_name(module),
        "segments": sampling.segments,
        "frames": sampling.frames,
        "spacing": sampling.spacing,
        "window": sampling.window,
        "draws": [draw._asdict() for draw in draws],
        "starts": starts if sampling.spacing is None else None,
        "factor": factor,
        "floor": 10 * floor / deviation,
        "quantiles": quantiles if quantiles[0] < quantiles[-1] else None,
    }


def _noise(module: RankingModule, clips: int, height: int, width: int) -> Tensor:
    sampling = module.score_sampling
    if module.lmm.pictures:
        assert sampling.window is not None
        height = width = sampling.window
    frames = sampling.segments * sampling.frames
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (clips, frames, 3, height, width), dtype=torch.uint8, generator=generator)


def _exported(graph: ScoreGraph, clips: Tensor) -> torch.onnx.ONNXProgram:
    """Trace the graph; with pictures the sides of the window are fixed, else every side may differ."""
    sizes = {0: Dim("clips")}
    if not graph.lmm.pictures:
        sizes |= {3: Dim("height"), 4: Dim("width")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter(
            "ignore"
        )  # of torch's own decompositions and of what transformers asks of sizes
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph,
            (clips,),
            input_names=["frames"],
            output_names=["score"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes={"frames": sizes},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program
