"""`visiontk segment`."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visiontk import settings, stream
from visiontk.artefacts import Naming
from visiontk.errors import UsageError
from visiontk.records import Record

from . import classify_view, options, running, segment_clip_files, segment_names, segment_prompts, segment_view, writers
from .console import Report, introduce, say, warner
from .segment_inputs import Run
from .segment_names import Kind
from .segment_outputs import Artefacts
from .segment_rows import Rows
from .segment_sheet import Sheet
from .segment_stale import EarlierObjects

if TYPE_CHECKING:
    from visiontk.adapters.segment import Everything


class Direction(StrEnum):
    forward = "forward"
    backward = "backward"
    both = "both"


def segment(
    inputs: options.Inputs = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", metavar="PROMPT", help="What to cut out, as below; repeatable. Default: point.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE.json", help="More prompts, as a JSON list in a file; see below.")
    ] = None,
    model: options.SegmentModel = None,
    direction: Annotated[
        Direction,
        typer.Option(
            "--direction",
            help="Where objects are followed from the prompted frame: on to the end, back to the start, or both. "
            "For backward and both, the frames up to it wait in a temporary file, those of a pipe as the bytes that came.",
        ),
    ] = Direction.forward,
    start: Annotated[int, typer.Option("--start", metavar="N", min=0, help="First frame to track; the first of all is 0.")] = 0,
    end: Annotated[int | None, typer.Option("--end", metavar="N", min=0, help="Last frame to track.")] = None,
    sequence: Annotated[
        bool | None,
        typer.Option(
            "--sequence/--no-sequence",
            help="Pictures are the frames of a video. Default: those of a folder that are numbered alike and of one size.",
        ),
    ] = None,
    auto_every: Annotated[
        int | None, typer.Option("--auto-every", metavar="N", min=1, help="auto: look for new objects on each N-th frame of a video.")
    ] = None,
    points_per_side: Annotated[
        int | None, typer.Option("--points-per-side", metavar="N", min=1, max=128, help="auto: clicks along each side of the picture.")
    ] = None,
    min_iou: Annotated[
        float | None, typer.Option("--min-iou", metavar="X", min=0.0, max=1.0, help="auto: least estimated quality of a mask.")
    ] = None,
    min_stability: Annotated[
        float | None, typer.Option("--min-stability", metavar="X", min=0.0, max=1.0, help="auto: least stability of a mask.")
    ] = None,
    min_area: Annotated[int | None, typer.Option("--min-area", metavar="N", min=0, help="auto: least pixels of a mask.")] = None,
    box_nms: Annotated[
        float | None,
        typer.Option("--box-nms", metavar="X", min=0.0, max=1.0, help="auto: of two masks whose boxes have a higher IoU, one stays."),
    ] = None,
    crop_layers: Annotated[
        int | None,
        typer.Option("--crop-layers", metavar="N", min=0, max=3, help="auto: look at 4, then 16, ... crops of the picture as well."),
    ] = None,
    save: Annotated[
        str | None, typer.Option("--save", metavar="KIND,...", help="Files to write: overlay, masks, binary, coco, yolo, cutout, npz.")
    ] = None,
    allow_urls: options.AllowUrls = False,
    null: options.Null = False,
    format: options.Format = None,
    stage: options.Stage = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    compile: options.SegmentCompile = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Cut out objects in images and videos.

    SAM 2 finds the object that a prompt shows, and tracks it through a video of any length, a stream or a camera (/dev/video0).
    One line per image or frame, with each object's mask as COCO RLE. An object that is hidden has area 0, and may come back.

    \b
    Prompts: KIND[:VALUE][@FRAME][#ID]
      point                    the middle of the picture
      point:X,Y                a point on the object, in pixels or percent: point:50%,30%
      point:X,Y+X,Y-X,Y        more points: + on the object, - beside it
      point:-X,Y@40#1          a correction on frame 40: here object 1 is not
      box:X0,Y0,X1,Y1          left, top, right and bottom edge
      mask:FILE.png            a mask of the picture's size; the numbers of an indexed one are ids
      auto                     everything; in a video, everything on its first frame
    Without @FRAME a prompt is on the first frame that is tracked, with --direction backward on the last one (--end). Frames count from 0,
    in a folder too, whatever the names of its pictures say. Prompts with the same #ID are of one object, those without are new ones. The
    first prompt of an object must show where it is.

    \b
    The same as JSON, in a file for --prompts, or in a line of the pipe as its "prompts". A line that has prompts is segmented by them, and
    --prompt and --prompts are for the other lines; of a --sequence of lines, for none where one of them has its own. Their boxes may reach
    over the edge of the picture, as those of detectors do. Masks are looked for from the current folder.
      [{"object": 1, "frame": 0, "points": [[X, Y], ...], "labels": [1, 0], "box": [X0, Y0, X1, Y1], "mask": "FILE.png" or RLE}]

    \b
    Files, by --save; overlay is the default with -o and on a terminal:
      overlay   the picture with its objects; of a video an MP4 of even sides at its own rate, with its sound if it is a file
      masks     palette PNGs whose pixels are ids, as DAVIS has them: DIR/VIDEO/00000.png
      binary    a PNG of 0 and 255 for each object: DIR/VIDEO/001/00000.png
      cutout    a PNG with alpha for each object, cropped to it
      yolo      a text file of polygons for each picture or frame; the class is the id - 1
      npz       masks (N, height, width), ids, scores, and frames of a video
      coco      one JSON for the run, with RLE; the category is the id; not with --resume

    -o is a folder, a file, or a template with {stem} {name} {parent} {frame} {index} {kind}. A file, and a template without {kind}, is for
    the overlay, or for what alone has its suffix; all else has its kind behind that name, and one of several objects its id: q.png,
    q-masks.png, q-cutout-4.png. A video has no {frame}. On a terminal the end of a run says where its files are.

    A folder whose pictures are numbered alike (00000.jpg, 00001.jpg, ...) and of one size is one video, and so are those of a pattern as
    frames/%05d.jpg; the overlay has 24 frames a second.
    --overwrite replaces a folder of frames as a whole: frames that an earlier run made there and this one does not are removed.
    --resume tracks a video that FILE holds in part again from its start, writes the lines that are missing and makes its files again.
    Ctrl-C leaves an overlay that plays to where it was stopped.

    \b
    visiontk segment clip.mp4 --prompt point                              overlay on a terminal, JSON lines in a pipe
    visiontk segment clip.mp4 -p point:320,180#1 -p point:-300,90@40#1    with a correction
    visiontk segment clip.mp4 -p box:10%,20%,60%,90%@100 --direction both -o overlay.mp4
    visiontk segment DAVIS/JPEGImages/480p/bear -p mask:first.png --save masks -o predicted/
    visiontk segment photos/ --no-sequence -p auto --save coco -o coco.json
    ffmpeg -i rtsp://camera/1 -f matroska - | visiontk segment - -p point:50%,50% | jq -c '[.frame, .segment.objects[0].box]'
    visiontk segment cat.jpg -p point --save cutout -o cat.png
    """
    span = segment_prompts.Span(direction.value, start, end)
    kinds = _kinds(save, out)
    knobs: dict[str, float | None] = {"points_per_side": points_per_side, "min_iou": min_iou, "min_stability": min_stability}
    knobs |= {"min_area": min_area, "box_nms": box_nms, "crop_layers": crop_layers}
    _check_options(span, kinds, out, resume, auto_every)
    writers.check(format, resume, out)
    asked = segment_prompts.read(prompt or [], prompts, span)
    _check_auto(asked, knobs, auto_every)
    in_force = settings.read()
    runtime = options.runtime(in_force, device, dtype, compile, None, seed, threads)
    names, pipe = running.inputs_or_pipe(inputs)

    from visiontk import sources
    from visiontk.media.video import VIDEO_SUFFIXES

    key = running.stage_key(stage, "segment")
    row_lines = Rows(key)
    held = running.held_lines(resume, key, row_lines.note)
    decisive = _decisive(span, asked, knobs, auto_every)
    segment_prompts.same(held, asked, decisive, resume)
    if pipe is None:  # whose records may have prompts of their own
        span.check_turn(asked.own)
    videos = [name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    if out == "-" and len(videos) > 1:
        raise UsageError(f"-o - has room for one video, and there are {len(videos)}; name a folder with -o")
    reading = sources.Reading(allow_urls=allow_urls, null=null, sequence=sequence, notice=None if quiet else say)
    naming = Naming(out, overwrite, aside=save is None and out is None, kind_behind=True)
    segment_names.check_inputs(names, out, kinds, reading)
    if held.goes_on:
        naming.go_on(held.files, partial(segment_clip_files.may_be_left_over, since=held.written))
    sheet = Sheet(out, overwrite=overwrite) if kinds and out != "-" and not quiet and _is_watched() else None
    earlier = EarlierObjects() if overwrite and not held.counts else None  # what is gone on with has files of its own there
    artefacts = Artefacts(kinds, naming, sheet, warner(quiet=quiet), earlier)

    from visiontk.adapters.segment import load

    segmenter = load(in_force.get("model.segment", model).value, runtime)
    running.same_model(held, segmenter.name, segmenter.revision, resume)
    segment_prompts.same_dtype(held, segmenter.runtime.dtype_name, resume)
    decisive |= {} if segmenter.runtime.dtype_name == segment_prompts.USUAL_DTYPE else {"dtype": segmenter.runtime.dtype_name}
    introduce(segmenter, quiet=quiet, verbose=verbose)

    from .segment_total import count_frames

    items = sources.from_arguments_whole(names, pipe, reading)
    rows, view = partial(segment_view.rows, key), partial(segment_view.view, key)
    form, writer = writers.choose(format, resume, segment_view.COLUMNS, rows, view, lambda: console, out)
    count, on_stdout = partial(count_frames, names, reading, asked.lines), form == "table" and sys.stdout.isatty()
    report = Report("frames", quiet=quiet, count=count, held=lambda: held.taken, on_stdout=on_stdout, verbose=verbose)
    console = report.progress.console if report.progress and form == "table" else classify_view.console()
    stats = stream.Stats()
    with artefacts:
        everything, workers, done = _everything(segmenter.knobs, knobs), runtime.decode_workers(), held.counts.total()
        run = Run(key, decisive, segmenter, asked, everything, auto_every, artefacts, held, row_lines, stats, workers, done)
        outcomes = run.outcomes(running.own_key(held.skip(row_lines.singles(items, held)), key))
        return running.drive(outcomes, key, _value, writer, report, stats, resume)


def _kinds(save: str | None, out: str | None) -> list[Kind]:
    if save is not None:
        return segment_names.parse(save)
    return [Kind.overlay] if out is not None or sys.stdout.isatty() else []


def _is_watched() -> bool:
    """Whether a person sees what the run says. The lines may go elsewhere."""
    return sys.stdout.isatty() or (sys.stderr is not None and sys.stderr.isatty())


def _check_options(span: segment_prompts.Span, kinds: list[Kind], out: str | None, resume: Path | None, every: int | None) -> None:
    if span.end is not None and span.end < span.start:
        raise UsageError(f"--end {span.end} comes before --start {span.start}; both are frames, counted from 0")
    if out == "-" and kinds != [Kind.overlay]:
        raise UsageError("-o - puts one overlay on the output; for other files name a folder with -o")
    if resume and Kind.coco in kinds:
        raise UsageError("--save coco makes one file of the whole run, which --resume cannot go on with; leave one of them out")
    if every and span.direction != "forward":
        raise UsageError("--auto-every looks for new objects on the way forward; leave it out, or --direction")
    if out and Kind.overlay in kinds and Path(out).suffix.lower() in (".mkv", ".mov", ".avi", ".webm", ".m4v"):
        raise UsageError(f"-o {out}: overlays of videos are MP4 files; name one that ends in .mp4, or a folder")


def _check_auto(asked: segment_prompts.Prompts, knobs: dict[str, float | None], every: int | None) -> None:
    given = [name for name, value in {**knobs, "auto_every": every}.items() if value is not None]
    if given and not any(prompt.auto for prompt in asked.own):
        raise UsageError(f"--{given[0].replace('_', '-')} goes with --prompt auto; add that, or leave it out")


def _decisive(span: segment_prompts.Span, asked: segment_prompts.Prompts, knobs: dict[str, float | None], every: int | None) -> Record:
    """The options, beside the prompts, that decide the answers; where they are not the default."""
    found: Record = {} if span.direction == "forward" else {"direction": span.direction}
    found |= {"start": span.start} if span.start else {}
    found |= {"end": span.end} if span.direction == "backward" and span.end is not None else {}
    found |= {name: value for name, value in {**knobs, "auto_every": every}.items() if value is not None}
    return found | ({"prompts_digest": asked.digest} if asked.digest else {})


def _everything(default: Everything, knobs: dict[str, float | None]) -> Everything:
    """The model's own knobs of ``auto``, but for those that were given."""
    chosen = {name: value for name, value in knobs.items() if value is not None}
    return replace(default, **chosen)  # type: ignore[arg-type]


def _value(outcome: stream.Outcome[dict[str, object]], index: int) -> dict[str, object]:
    assert outcome.result is not None
    return outcome.result
