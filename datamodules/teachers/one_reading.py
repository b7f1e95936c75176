"""Teachers that cut clips alike, in one pass: each clip is read, encoded and distorted for all of them once.

Reading costs more than scoring: four frames of a small video take as long to decode as three teachers take to
score them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice

from datamodules.labels import Annotator, ClipDataset, ClipItem, LabelStore, Request
from datamodules.labels.annotation import Parts, annotate_missing, missing_requests
from datamodules.teachers.teacher import Teacher

CLIPS = 32
"""Read before every teacher scores them."""


def alike(annotators: Sequence[Annotator]) -> Iterator[list[Annotator]]:
    """Yield the annotators in groups that can be shown the same clips, in order of the first of each.

    Example:
        >>> from datamodules import NIQE, Laplacian
        >>> [[one.name for one in group] for group in alike([NIQE(), Laplacian()])]
        [['niqe', 'laplacian']]
    """
    groups: dict[object, list[Annotator]] = {}
    for annotator in annotators:
        shared = type(annotator).annotate is Teacher.annotate if isinstance(annotator, Teacher) else False
        key = str(_cut(annotator)) if shared and isinstance(annotator, Teacher) else id(annotator)
        groups.setdefault(key, []).append(annotator)
    yield from groups.values()


def _cut(teacher: Teacher) -> tuple[object, ...]:
    return asdict(teacher.sampling), teacher.draws, teacher.pad, str(teacher.device)


def annotate_together(
    annotators: Sequence[Annotator],
    requests: Sequence[Request],
    store: LabelStore,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    onlooker: Callable[[Request, ClipItem], None] | None = None,
) -> dict[str, int]:
    """Have annotators score what the store lacks of each, as `annotate_missing` does for one, in round 0.

    Args:
        annotators: one group of `alike`.
        requests: all that is to be scored, by all ranks together.
        store: where scores are kept.
        rank: this process.
        world_size: the number of processes.
        workers: processes that read clips, of this rank.
        onlooker: is shown every request whose clips are read for several annotators, with its clips.

    Returns:
        Name of each annotator -> how many scores were computed here.

    Raises:
        InputError: the store cannot be written to.
    """
    teachers = [one for one in annotators if isinstance(one, Teacher)]
    if len(teachers) < 2:
        (only,) = annotators
        done = annotate_missing(only, requests, store, 0, rank=rank, world_size=world_size, workers=workers)
        return {only.name: done}
    lacking = {
        teacher.name: missing_requests(teacher, requests, store, 0, rank, world_size) for teacher in teachers
    }
    wanted = list({one.key: one for some in lacking.values() for one in some}.values())
    if not wanted:
        return dict.fromkeys(lacking, 0)
    store.require_writable()
    parts = {teacher.name: Parts(teacher, store, 0, rank) for teacher in teachers}
    keys = {name: {request.key for request in some} for name, some in lacking.items()}
    for teacher in teachers:
        if lacking[teacher.name]:
            teacher.fit(workers)
    first = teachers[0]
    items = ClipDataset(wanted, first.sampling, first.draws, first.pad).read(workers)
    try:
        while some := list(islice(items, CLIPS)):
            if onlooker is not None:
                for item in some:
                    onlooker(wanted[item.position], item)
            for teacher in teachers:
                own = [item for item in some if wanted[item.position].key in keys[teacher.name]]
                for annotation in teacher.annotate_clips(wanted, own):
                    parts[teacher.name].add(annotation)
    finally:
        for part in parts.values():
            part.flush()  # also on Ctrl-C
    for name, part in parts.items():
        part.tell(len(lacking[name]))
    return {name: part.count for name, part in parts.items()}
