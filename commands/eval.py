"""`visiontk eval`: results against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from . import eval_lines, eval_view, options, writers
from .console import Report, say, warner
from .eval_generate import generate
from .eval_lvm import lvm

if TYPE_CHECKING:
    from .eval_masks import Truth

evaluate = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="Measure results against the truth.")


@evaluate.callback()
def _group() -> None:
    """Measure results against the truth."""


evaluate.command()(generate)
evaluate.command()(lvm)


class Protocol(StrEnum):
    davis2017 = "davis2017"
    sav = "sav"
    miou = "miou"


@evaluate.command()
def segment(
    pred: Annotated[
        str, typer.Argument(metavar="PRED", show_default=False, help="Masks: a folder, a PNG, lines of `visiontk segment`; -.")
    ],
    gt: Annotated[str, typer.Argument(metavar="GT", show_default=False, help="The true masks: a folder or a PNG.")],
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            "--protocol",
            help="Default: davis2017; sav where GT has a folder per object; miou for pictures that are not numbered alike and of one size.",
            show_default=False,
        ),
    ] = None,
    stage: Annotated[str, typer.Option("--as", metavar="KEY", help="Key of the masks in the lines.")] = "segment",
    format: options.Format = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Measure masks: J, F and J&F of videos, mIoU of images.

    J is the IoU of regions and F the agreement of boundaries, both from 0 to 1, and J&F their mean. PRED and GT are PNGs
    whose pixels are object numbers, or 0 and 255 for one object, and lie in one of these ways. PRED may also be the lines of
    `visiontk segment`.

    \b
    VIDEO/00000.png ...                one video, as DAVIS has it
    FOLDER/cat.png ...                 images: not numbered alike, or of different sizes
    VIDEO/000/00000.png ...            one video with a folder for each object, as SA-V has it
    FOLDER/VIDEO/...                   many videos; also FOLDER/Annotations/VIDEO/...
    FILE.png                           one picture

    Videos belong together by name, and so do frames; in lines a frame is its number, from 0. A video or a frame of GT that PRED lacks is an
    error; an object that no map or line of PRED has is an empty prediction. What PRED has beside GT's videos and frames is left out.
    SA-V numbers objects from 000 and `visiontk segment` from 1: where GT has an object 0 and PRED has none, N of GT is N + 1 of PRED.

    \b
    davis2017  Mean of J and of F over all frames but the first and the last, their
               recall (share of frames above 0.5) and decay (first quarter less last);
               then the mean over all objects. Where object and prediction are both
               absent, J and F are 1. The objects are 1 to the highest number in GT's
               first frame; higher ones are an error in PRED and ignored in GT.
    sav        Mean of J and of F over the annotated frames but the first and the
               last, counted from the object's first appearance in either; then the
               mean over all objects. Objects that GT never has are ignored.
    miou       IoU of each object of each image, then the mean over all of them.
               Objects that GT's image lacks are ignored.

    \b
    visiontk eval segment pred/ DAVIS/Annotations/480p          one line per object, then the mean
    visiontk eval segment pred/ sav_val/Annotations_6fps
    visiontk eval segment bear.jsonl Annotations/bear --format csv
    visiontk segment bear.mp4 --prompt point | visiontk eval segment - Annotations/bear
    visiontk eval segment cat.png cat-truth.png
    visiontk eval segment pred/ DAVIS/Annotations/480p | jq 'select(.objects)."J&F"'
    """
    writers.check(format, None)

    from . import eval_measure, eval_pairs, eval_sources

    warn = warner(quiet=quiet)
    truth = eval_sources.read_truth(gt)
    chosen = (protocol or _default(truth)).value
    tasks = eval_measure.plan(chosen, eval_pairs.pair(truth, eval_sources.read_predicted(pred, stage), warn))
    columns = eval_measure.COLUMNS[chosen]
    lines = eval_lines.Lines(format, columns, eval_view.rows, partial(eval_view.view, columns))
    report = Report("frames", quiet=quiet, count=lambda: sum(len(task.frames) for task in tasks))
    try:
        with report:
            for line in eval_measure.results(chosen, tasks, partial(_advance, report), warn):
                lines.write(line)
    except KeyboardInterrupt:
        say("interrupted before all objects were measured; their mean is missing")
        raise
    lines.end()
    return 0


def _default(truth: Mapping[str, Truth]) -> Protocol:
    from .eval_masks import Folders

    if any(isinstance(video, Folders) for video in truth.values()):
        return Protocol.sav
    images = all(video.are_images() for video in truth.values() if not isinstance(video, Folders))
    return Protocol.miou if images else Protocol.davis2017


def _advance(report: Report) -> None:
    if report.progress:
        report.progress.advance(report.progress.task_ids[0])
