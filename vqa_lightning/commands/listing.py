"""The command `list`: simulators, teachers, families, benchmarks and the configs that come along."""

from pathlib import Path

from rich.console import Console
from rich.table import Table


def shipped_configs() -> dict[str, Path]:
    """File name -> path of the configs in the checkout, or of those in the installed package."""
    package = Path(__file__).resolve().parents[1]
    folder = package.parent / "configs"
    if not (package.parent / "pyproject.toml").is_file():
        folder = package / "configs"
    return {path.name: path for path in sorted(folder.glob("*.yaml"))}


def _first_comment(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def print_listing() -> None:
    """Print one table a kind."""
    import datamodules
    from datamodules.codecs import Codec
    from datamodules.opinions import BENCHMARKS
    from datamodules.simulators import SIMULATORS
    from vqa_lightning.annotators.checkpoint_teacher import Checkpoint
    from vqa_lightning.families import FAMILIES
    from vqa_lightning.families.published import PUBLISHED

    console = Console()
    simulators = Table(
        "simulator",
        "family",
        "levels, mildest first",
        title="Simulators (data.simulators); codecs run in the workers",
        title_justify="left",
    )
    for name, simulator in SIMULATORS.items():
        strengths = ", ".join(f"{strength:g}" for strength in simulator.levels)
        encoder = f"{simulator.encoder} " if isinstance(simulator, Codec) else ""
        simulators.add_row(name, simulator.family, encoder + strengths)
    teachers = Table(
        "class_path",
        "what",
        title="Teachers (data.teachers, or predict --model.teacher)",
        title_justify="left",
    )
    for name in datamodules.TEACHERS:
        doc = getattr(datamodules, name).__doc__
        teachers.add_row(f"datamodules.{name}", doc.splitlines()[0])
    teachers.add_row("vqa_lightning.Checkpoint", (Checkpoint.__doc__ or "").splitlines()[0])
    families = Table(
        "family", "checkpoints", title="LMM families (model.lmm.pretrained)", title_justify="left"
    )
    for family in FAMILIES:
        known = [name for name, build in PUBLISHED.items() if build().model_type == family]
        families.add_row(family, "\n".join([*known, "or a folder of this family"]))
    families.add_row("(embedded)", "none: model.lmm.embedded, built tiny of its sizes")
    benchmarks = Table(
        "benchmark",
        "average",
        "rows of the lists known, with their scale",
        title="Benchmarks (test --data.benchmark)",
        title_justify="left",
    )
    for name, benchmark in BENCHMARKS.items():
        lists = [
            f"{one.rows} {release}" + ("" if one.scale is None else f", {one.scale[0]:g} to {one.scale[1]:g}")
            for release, one in benchmark.lists.items()
        ]
        sign = [] if benchmark.higher_is_better else ["(lower is better)"]
        benchmarks.add_row(name, benchmark.domain or "", "\n".join(lists + sign))
    configs = Table("config", "what", title="Configs (--config)", title_justify="left")
    for name, path in shipped_configs().items():
        configs.add_row(name, _first_comment(path))
    for table in (simulators, teachers, families, configs, benchmarks):
        console.print(table)
    for name, benchmark in BENCHMARKS.items():  # an address cut to a table's width would be none
        source = "" if benchmark.url is None else f". {benchmark.url}"
        console.print(f"{name}: {benchmark.citation}{source}", soft_wrap=True, highlight=False)
