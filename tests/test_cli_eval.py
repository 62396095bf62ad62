"""`visiontk eval segment`: where masks may lie, what comes out, and what cannot be compared."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.conftest import Result, Run

DATA = Path(__file__).parent / "data"  # see test_metrics.py
MASKS = np.load(DATA / "metrics_masks.npz")
FIGURES: dict[str, Any] = json.loads((DATA / "metrics_figures.json").read_text("utf-8"))
DAVIS = FIGURES["davis2017"]["objects"]
SIX_DIGITS = 1e-5
VISIONTK = str(Path(sys.executable).with_name("visiontk"))

Map = npt.NDArray[np.uint8]
Evaluate = Callable[..., "Result"]


@pytest.fixture
def evaluate(run: Run) -> Evaluate:
    def call(*arguments: str | os.PathLike[str], stdin: bytes | None = None) -> Result:
        return run("eval", "segment", *arguments, stdin=stdin)

    return call


def save(file: str | Path, pixels: Map) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def save_video(folder: str | Path, maps: Map, first: int = 0) -> None:
    for frame, pixels in enumerate(maps, first):
        save(Path(folder) / f"{frame:05d}.png", pixels)


def save_objects(folder: str | Path, maps: Map) -> None:
    """As SA-V has it: a folder of binary masks for each object."""
    for number in range(1, int(maps.max()) + 1):
        save_video(Path(folder) / f"{number:03d}", ((maps == number) * 255).astype(np.uint8))


def save_scene(name: str, truth: str = "gt", predicted: str = "pred") -> None:
    save_video(truth, MASKS[f"{name}/gt"])
    save_video(predicted, MASKS[f"{name}/pred"])


def rle(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Uncompressed COCO RLE."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat.astype(int), prepend=0))
    return {"size": list(mask.shape), "counts": np.diff([0, *changes, flat.size]).tolist()}


def lines(path: str, maps: Map, key: str = "segment") -> str:
    """As `visiontk segment` writes them."""
    found = ""
    for frame, pixels in enumerate(maps):
        objects = [{"id": number, "rle": rle(pixels == number)} for number in range(1, int(maps.max()) + 1)]
        found += json.dumps({"path": path, "frame": frame, key: {"objects": objects}}) + "\n"
    return found


def test_one_line_per_object_then_their_mean(evaluate: Evaluate) -> None:
    save_scene("several")
    *objects, mean = evaluate("pred", "gt").records
    names = ["J", "J_recall", "J_decay", "F", "F_recall", "F_decay"]
    for line in objects:
        assert (line["protocol"], line["video"], line["frames"]) == ("davis2017", "gt", 9)
        wanted = DAVIS["several"][str(line["object"])]
        assert [line[name] for name in names] == pytest.approx(wanted, rel=SIX_DIGITS)
        assert line["J&F"] == pytest.approx((wanted[0] + wanted[3]) / 2, rel=SIX_DIGITS)
    assert [line["object"] for line in objects] == [1, 2, 3]
    assert (mean["protocol"], mean["videos"], mean["objects"]) == ("davis2017", 1, 3)
    assert [mean[name] for name in names] == pytest.approx(np.mean(list(DAVIS["several"].values()), axis=0), rel=SIX_DIGITS)


@pytest.mark.parametrize("root", ["gt", "gt/Annotations", "gt/Annotations/480p"])
def test_many_videos_come_to_the_mean_of_the_reference(evaluate: Evaluate, root: str) -> None:
    for name in DAVIS:
        save_scene(name, f"{root}/{name}", f"pred/{name}")
    mean = evaluate("pred", "gt").records[-1]
    assert (mean["videos"], mean["objects"]) == (len(DAVIS), sum(map(len, DAVIS.values())))
    assert [mean[name] for name in ("J", "J_recall", "J_decay", "F", "F_recall", "F_decay")] == pytest.approx(
        FIGURES["davis2017"]["mean"], rel=SIX_DIGITS
    )


def test_the_sav_protocol_over_maps_and_over_a_folder_per_object(evaluate: Evaluate) -> None:
    for name in FIGURES["sav"]["objects"]:
        save_scene(name, f"maps/gt/{name}", f"maps/pred/{name}")
    for name in FIGURES["sav-folders"]["objects"]:
        save_objects(f"folders/gt/{name}", MASKS[f"{name}/gt"])
        save_objects(f"folders/pred/{name}", MASKS[f"{name}/pred"])
    check_sav(evaluate("maps/pred", "maps/gt", "--protocol", "sav"), "sav")
    check_sav(evaluate("folders/pred", "folders/gt"), "sav-folders")


def check_sav(result: Result, wanted: str) -> None:
    *objects, mean = result.records
    found: dict[str, dict[str, list[float]]] = {}
    for line in objects:
        found.setdefault(line["video"], {})[str(line["object"])] = [line["J"], line["F"]]
    figures = FIGURES[wanted]["objects"]
    assert {name: set(of) for name, of in found.items()} == {name: set(of) for name, of in figures.items()}
    for name, of in figures.items():
        for number, both in of.items():
            assert found[name][number] == pytest.approx(both, rel=SIX_DIGITS), (name, number)
    assert [mean["J&F"], mean["J"], mean["F"]] == pytest.approx(FIGURES[wanted]["mean"], rel=SIX_DIGITS)
    assert (mean["protocol"], "J_recall" in mean) == ("sav", False)


def test_a_single_video_of_folders_is_measured_against_maps_and_against_lines(evaluate: Evaluate) -> None:
    save_objects("gt", MASKS["late/gt"])
    save_video("pred", MASKS["late/pred"])
    Path("pred.jsonl").write_text(lines("bear.mp4", MASKS["late/pred"]))
    wanted = [pytest.approx(both, rel=SIX_DIGITS) for both in FIGURES["sav"]["objects"]["late"].values()]
    for pred in ("pred", "pred.jsonl"):
        assert [[line["J"], line["F"]] for line in evaluate(pred, "gt").records[:-1]] == wanted


def test_lines_from_a_file_and_from_the_pipe(evaluate: Evaluate) -> None:
    save_scene("several", "gt/bear")
    save_scene("late", "gt/cat", "unused")
    text = lines("clips/bear.mp4", MASKS["several/pred"]) + '{"about": "nothing"}\n' + lines("frames/cat", MASKS["late/pred"])
    wanted = [pytest.approx(DAVIS[name][number][0], rel=SIX_DIGITS) for name in ("several", "late") for number in sorted(DAVIS[name])]
    Path("pred.jsonl").write_text(text)
    assert [line["J"] for line in evaluate("pred.jsonl", "gt").records[:-1]] == wanted
    assert [line["J"] for line in evaluate("-", "gt", stdin=text.encode()).records[:-1]] == wanted
    Path("named.jsonl").write_text(text.replace('"segment"', '"large"'))
    assert [line["J"] for line in evaluate("named.jsonl", "gt", "--as", "large").records[:-1]] == wanted
    assert "name the key of the masks with --as" in evaluate("named.jsonl", "gt").error


def test_frames_of_the_truth_that_count_from_one_are_those_of_lines(evaluate: Evaluate) -> None:
    save_video("gt", MASKS["several/gt"], first=1)
    Path("pred.jsonl").write_text(lines("bear.mp4", MASKS["several/pred"]))
    assert evaluate("pred.jsonl", "gt").records[0]["J"] == pytest.approx(DAVIS["several"]["1"][0], rel=SIX_DIGITS)


def test_sparse_annotations_are_found_by_their_numbers(evaluate: Evaluate) -> None:
    maps = MASKS["several/gt"]
    for frame in (0, 4, 8):
        save(f"gt/{frame:05d}.png", maps[frame])
    Path("pred.jsonl").write_text(lines("bear.mp4", maps))
    save_video("pred", maps)
    for pred in ("pred", "pred.jsonl"):
        assert [(line["J"], line["frames"]) for line in evaluate(pred, "gt").records[:-1]] == [(1, 1)] * 3


def test_numbers_in_names_count_as_numbers(evaluate: Evaluate) -> None:
    maps = np.zeros((12, 8, 8), np.uint8)
    for frame, pixels in enumerate(maps):
        pixels[: 1 + frame % 8, 2:5] = 1
    other = np.roll(maps, 1, axis=2)
    other[8] = 0
    for side, some in (("gt", maps), ("pred", other)):
        save_video(f"padded/{side}/a", some)
        for frame, pixels in enumerate(some, 1):
            save(f"plain/{side}/a/f{frame}.png", pixels)
    padded, plain = (evaluate(f"{name}/pred", f"{name}/gt").records for name in ("padded", "plain"))
    assert plain == padded and 0 < plain[-1]["J"] < 1


def test_an_object_that_appears_late_has_no_files_before(evaluate: Evaluate) -> None:
    """As `--save binary` writes them; the truth shows it as nothing until then."""
    late = SQUARE * (np.arange(5) >= 3)[:, None, None].astype(np.uint8)
    for side in ("gt", "pred"):
        save_video(f"{side}/001", SQUARE * 255)
        save_video(f"{side}/002", late[3:] * 255 if side == "pred" else late * 255, 3 if side == "pred" else 0)
    assert evaluate("pred", "gt", "--protocol", "sav").records[-1]["J"] == 1


def test_binary_masks_are_one_object(evaluate: Evaluate) -> None:
    truth, predicted = (MASKS[f"nothing-predicted/{side}"] for side in ("gt", "gt"))
    save_video("gt", truth * 255)
    save_video("pred", predicted * 255)
    save_video("numbered", predicted)
    for pred in ("pred", "numbered"):
        for protocol in ("davis2017", "sav"):
            (line, mean) = evaluate(pred, "gt", "--protocol", protocol).records
            assert (line["object"], line["J"], mean["J&F"]) == (1, 1, 1)


def test_predictions_of_0_and_255_show_the_one_object_of_numbered_truth(evaluate: Evaluate) -> None:
    truth = MASKS["nothing-predicted/gt"]
    assert set(np.unique(truth)) == {0, 1}
    save_video("pred", truth * 255)
    save_video("gt", truth)
    save_video("third", truth * 3)
    save_video("sav/clip/000", truth * 255)
    for gt, number, protocols in (("gt", 1, ("davis2017", "sav")), ("third", 3, ("sav",)), ("sav/clip", 0, ("sav",))):
        for protocol in protocols:
            result = evaluate("pred", gt, "--protocol", protocol)
            assert [(line.get("object"), line["J"]) for line in result.records] == [(number, 1), (None, 1)]
    save("a.png", np.array([[255, 255, 0]], np.uint8))
    save("b.png", np.array([[1, 0, 0]], np.uint8))
    assert evaluate("a.png", "b.png").records[-1]["mIoU"] == 0.5
    save("b.png", np.array([[1, 2, 0]], np.uint8))
    result = evaluate("a.png", "b.png")
    assert result.code == 2 and "PRED shows one object of b, as 0 and 255, and GT has 2" in result.error


def test_iou_of_two_pictures(evaluate: Evaluate) -> None:
    save("a.png", np.array([[1, 1, 2, 9]], np.uint8))
    save("b.png", np.array([[1, 2, 2, 3]], np.uint8))
    *objects, mean = evaluate("a.png", "b.png").records
    assert objects == [{"protocol": "miou", "image": "b", "object": number, "IoU": 0.5} for number in (1, 2)] + [
        {"protocol": "miou", "image": "b", "object": 3, "IoU": 0}
    ]
    assert mean == {"protocol": "miou", "images": 1, "objects": 3, "mIoU": pytest.approx(1 / 3, rel=SIX_DIGITS)}


def test_miou_of_a_folder_of_images(evaluate: Evaluate) -> None:
    for name, mask in {"cat": [[255, 255, 0, 0]], "dog": [[0, 0, 255, 255]]}.items():
        save(f"gt/{name}.png", np.array(mask, np.uint8))
    for name, mask in {"cat": [[255, 0, 0, 0]], "dog": [[0, 0, 255, 255]], "other": [[255]]}.items():
        save(f"pred/{name}.png", np.array(mask, np.uint8))
    answers = [("photos/cat.jpg", [[1, 0, 0, 0]]), ("photos/dog.jpg", [[0, 0, 1, 1]])]
    records = [{"path": path, "segment": {"objects": [{"id": 1, "rle": rle(np.array(mask, bool))}]}} for path, mask in answers]
    Path("pred.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for pred in ("pred", "pred.jsonl"):
        *objects, mean = evaluate(pred, "gt", "--protocol", "miou").records
        assert [(line["image"], line["IoU"]) for line in objects] == [("cat", 0.5), ("dog", 1)]
        assert (mean["images"], mean["mIoU"]) == (2, 0.75)


def test_masks_of_pictures_as_segment_names_them(evaluate: Evaluate) -> None:
    """``cat-masks.png`` is of ``cat.png``, where all names in the folder end so."""
    mask = np.array([[1, 2, 0]], np.uint8)
    for name in ("cat", "dog"):
        save(f"gt/{name}.png", mask)
        save(f"pred/{name}-masks.png", mask)
    *objects, mean = evaluate("pred", "gt", "--protocol", "miou").records
    assert {line["image"] for line in objects} == {"cat", "dog"} and mean["mIoU"] == 1
    for beside in ("overlay", "binary-1", "cutout-2"):  # what else --save may have put there
        save(f"pred/cat-{beside}.png", mask)
    assert evaluate("pred", "gt", "--protocol", "miou").records[-1]["mIoU"] == 1
    save("pred/note.png", mask)
    result = evaluate("pred", "gt", "--protocol", "miou")
    assert result.code == 2 and "no frame of" in result.error


def test_images_are_told_from_the_frames_of_a_video(evaluate: Evaluate) -> None:
    """By their names or their sizes; with --protocol nothing is guessed."""
    one, two = np.array([[1, 0, 0]], np.uint8), np.array([[1], [0], [0]], np.uint8)
    for folder, names, masks in (
        ("unnumbered", ("cat.png", "dog.png", "owl.png"), (one, one, one)),
        ("sizes", ("00000.png", "00001.png", "00002.png"), (one, one, two)),
        ("alone", ("cat.png",), (one,)),
        ("video", ("00000.png", "00001.png", "00002.png"), (one, one, one)),
    ):
        for name, mask in zip(names, masks, strict=True):
            save(f"{folder}/{name}", mask)
        wanted = "davis2017" if folder == "video" else "miou"
        assert {line["protocol"] for line in evaluate(folder, folder).records} == {wanted}, folder
    assert evaluate("unnumbered", "unnumbered", "--protocol", "sav").records[-1]["protocol"] == "sav"
    Path("sets").mkdir()
    for folder in ("unnumbered", "sizes"):
        Path(folder).rename(f"sets/{folder}")
    assert evaluate("sets", "sets").records[-1] == {"protocol": "miou", "images": 6, "objects": 6, "mIoU": 1}
    Path("video").rename("sets/video")
    assert evaluate("sets", "sets").records[-1]["protocol"] == "davis2017", "one video makes it a set of videos"


@pytest.mark.parametrize(("form", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_values_have_the_mean_in_the_row_without_an_object(evaluate: Evaluate, form: str, delimiter: str) -> None:
    save_scene("several")
    text = evaluate("pred", "gt", "--format", form).stdout.decode()
    rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    assert [row["object"] for row in rows] == ["1", "2", "3", ""]
    assert [float(row["J"]) for row in rows[:3]] == [pytest.approx(DAVIS["several"][row["object"]][0], rel=SIX_DIGITS) for row in rows[:3]]
    assert float(rows[3]["J"]) == pytest.approx(np.mean([float(row["J"]) for row in rows[:3]]), rel=SIX_DIGITS)


def test_values_of_images(evaluate: Evaluate) -> None:
    save("a.png", np.array([[1, 0]], np.uint8))
    assert evaluate("a.png", "a.png", "-f", "csv").stdout == b"protocol,image,object,IoU\nmiou,a,1,1.0\nmiou,,,1.0\n"


def test_a_table_in_percent_for_people(evaluate: Evaluate) -> None:
    save_scene("late")
    shown = evaluate("pred", "gt", "--format", "table").stdout.decode()
    assert "davis2017: 2 objects in 1 video, in %" in shown
    assert re.search(r"gt +1 +10 +64\.8 +63\.6 +70\.0 +54\.6 +66\.0 +70\.0 +46\.7", shown)
    assert re.search(r"mean +76\.2 +69\.3 +85\.0 +27\.3 +83\.0 +85\.0 +23\.3", shown)


def test_object_0_of_sav_is_measured_where_the_prediction_has_it(evaluate: Evaluate) -> None:
    masks = MASKS["nothing-predicted/gt"]
    save_video("gt/000", masks * 255)
    save_video("pred/000", masks * 255)
    records = [{"path": "x.mp4", "frame": at, "segment": {"objects": [{"id": 0, "rle": rle(mask > 0)}]}} for at, mask in enumerate(masks)]
    Path("pred.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for pred in ("pred", "pred.jsonl"):
        done = evaluate(pred, "gt")
        assert [(line["object"], line["J&F"]) for line in done.records[:-1]] == [(0, 1)]
        assert done.stderr == ""


def test_objects_that_sav_counts_from_0_and_the_prediction_from_1(evaluate: Evaluate) -> None:
    """The truth has 000, 001 and 002, and the prediction numbers the same objects 1, 2 and 3, as `visiontk segment` does."""
    truth, predicted = MASKS["several/gt"], MASKS["several/pred"]
    for number in (1, 2, 3):
        save_video(f"gt/{number - 1:03d}", ((truth == number) * 255).astype(np.uint8))
    save_objects("folders", predicted)
    save_video("maps", predicted)
    Path("pred.jsonl").write_text(lines("bear.mp4", predicted))
    save_objects("named-alike", truth)
    wanted = evaluate("folders", "named-alike").records
    for pred in ("folders", "maps", "pred.jsonl"):
        done = evaluate(pred, "gt")
        *objects, mean = done.records
        assert [line["object"] for line in objects] == [0, 1, 2], "as the truth calls them"
        assert [line["J&F"] for line in objects] == [line["J&F"] for line in wanted[:-1]]
        assert 0.3 < mean["J&F"] == wanted[-1]["J&F"] < 1
        said = "visiontk: warning: GT numbers its objects from 0 and PRED from 1, so object 0 of GT is compared with 1 of PRED, and so on\n"
        assert done.stderr == said
        assert evaluate(pred, "gt", "-q").stderr == ""
    assert evaluate("folders", "named-alike").stderr == ""


def test_what_the_protocols_say_of_objects_that_the_truth_lacks(evaluate: Evaluate) -> None:
    save_scene("unknown-number")
    refused = evaluate("pred", "gt")
    assert refused.code == 2
    assert "object 7 is predicted, and the first frame of the truth has no such object; davis2017 refuses that" in refused.error
    assert [line["object"] for line in evaluate("pred", "gt", "--protocol", "sav").records[:-1]] == [1, 2]


def test_a_video_without_objects_is_named_and_left_out(evaluate: Evaluate) -> None:
    save_scene("several", "gt/a", "pred/a")
    save_video("gt/b", MASKS["nothing-predicted/pred"])
    save_video("pred/b", MASKS["nothing-predicted/pred"])
    done = evaluate("pred", "gt")
    assert (done.code, done.records[-1]["objects"]) == (0, 3)
    assert done.stderr == "visiontk: warning: left out b: the first frame of the truth has nothing in it\n"
    assert evaluate("pred", "gt", "-q").stderr == ""
    alone = evaluate("pred/b", "gt/b")
    assert (alone.code, alone.stdout) == (2, b"")
    assert "GT has no object that davis2017 measures" in alone.error


def test_videos_of_pred_alone_are_named_and_left_out(evaluate: Evaluate) -> None:
    for name in ("a", "b"):
        save_scene("several", f"gt/{name}", f"pred/{name}")
    save_scene("several", "unused", "pred/c")
    done = evaluate("pred", "gt")
    assert done.records[-1]["videos"] == 2
    assert done.stderr == "visiontk: warning: left out 1 of PRED that GT lacks: c\n"


SQUARE = np.zeros((5, 8, 8), np.uint8)
SQUARE[:, 2:5, 2:5] = 1


def empty_folder() -> None:
    save_video("gt", SQUARE)
    Path("pred").mkdir()


def no_truth() -> None:
    save_video("pred", SQUARE)


def other_sizes() -> None:
    save_video("gt", SQUARE)
    save_video("pred", SQUARE[:, :, :6])


def other_sizes_of_empty_masks() -> None:
    save_video("gt", SQUARE)
    save_video("pred", SQUARE[:, :, :6] * 0)


def no_common_frame() -> None:
    save_video("gt", SQUARE)
    save_video("pred", SQUARE, first=100)


def a_frame_lacks() -> None:
    save_video("gt", SQUARE)
    save_video("pred", SQUARE)
    Path("pred/00002.png").unlink()


def a_video_lacks() -> None:
    for name in ("a", "b"):
        save_video(f"gt/{name}", SQUARE)
    save_video("pred/a", SQUARE)


def an_object_lacks() -> None:
    for name in ("gt/000", "gt/001", "pred/000"):
        save_video(name, SQUARE)


def two_frames() -> None:
    for side in ("gt", "pred"):
        save_video(side, SQUARE[:2])


def a_broken_file() -> None:
    for side in ("gt", "pred"):
        save_video(side, SQUARE)
    whole = Path("gt/00003.png").read_bytes()
    Path("gt/00003.png").write_bytes(whole[: len(whole) // 2])


def colours() -> None:
    for side in ("gt", "pred"):
        save_video(side, SQUARE)
    coloured = np.zeros((8, 8, 3), np.uint8)
    coloured[2, 2], coloured[5, 5] = (255, 0, 0), (0, 255, 0)
    Image.fromarray(coloured).save("gt/00002.png")


def several_in_one() -> None:
    for side in ("gt", "pred"):
        save_video(f"{side}/001", SQUARE * (1 + np.arange(8, dtype=np.uint8)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty_folder, "pred holds no masks; name a folder of PNGs as 00000.png, or of such folders"),
        (no_truth, "there is no gt; name a PNG or a folder of them"),
        (other_sizes, "pred/00001.png is 6x8 pixels and the truth is 8x8; give masks of one size"),
        (other_sizes_of_empty_masks, "pred/00001.png is 6x8 pixels and the truth is 8x8; give masks of one size"),
        (no_common_frame, "PRED and GT have no frame of gt in common; GT has 00001 and so on, name both sides alike"),
        (a_frame_lacks, "PRED lacks frame 00002 of gt, which GT has; predict every annotated frame"),
        (a_video_lacks, "PRED has no b, which GT has; predict every video, or name a part of GT"),
        (an_object_lacks, "PRED and GT have no frame of object 1 of gt in common; GT has 00001 and so on, name both sides alike"),
        (two_frames, "gt has 2 annotated frames, and davis2017 leaves out the first and the last; use --protocol miou for images"),
        (a_broken_file, "the mask gt/00003.png is damaged"),
        (colours, "gt/00002.png has colours for objects, and they are numbered anew in each frame; save it as a palette PNG"),
        (several_in_one, "pred/001/00001.png holds several objects, and a folder of three digits is one"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_compared_has_its_own_line(evaluate: Evaluate, make: Callable[[], None], message: str) -> None:
    make()
    done = evaluate("pred", "gt")
    assert (done.code, done.stdout) == (2, b"")
    assert done.error.startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "pred.jsonl holds no lines of `visiontk segment`"),
        ("nonsense\n", "pred.jsonl line 1 is not a JSON line"),
        ('{"path": "x.mp4", "frame": 0, "classify": {}}\n', 'pred.jsonl line 1 has no "segment"; name the key of the masks with --as'),
        ('{"path": "x.mp4", "frame": 0, "segment": {"objects": [{}]}}\n', 'pred.jsonl line 1: "segment" holds no objects'),
        (
            '{"path": "x.mp4", "frame": 1, "segment": {"objects": []}}\n' * 2,
            "pred.jsonl has two lines for x frame 1; keep the lines of one run",
        ),
        (
            "".join(json.dumps({"path": f"{folder}/x.mp4", "frame": 0, "segment": {"objects": []}}) + "\n" for folder in "ab"),
            "pred.jsonl has lines of a/x.mp4 and of b/x.mp4, which are both called x; give those of one of them",
        ),
        (
            "".join(
                json.dumps({"path": "x.mp4", "frame": frame, "segment": {"error": {"kind": "broken", "message": "damaged"}}}) + "\n"
                for frame in range(5)
            ),
            "pred.jsonl, x frame 00001 has no masks (damaged); segment it again",
        ),
        (
            "".join(
                json.dumps({"path": "x.mp4", "frame": frame, "segment": {"objects": [{"id": 1, "rle": {"size": [8, 8]}}]}}) + "\n"
                for frame in range(5)
            ),
            "pred.jsonl, x frame 00001: a mask is no COCO RLE",
        ),
    ],
    ids=["empty", "no JSON", "another stage", "no objects", "twice", "one name", "failed", "no mask"],
)
def test_lines_that_cannot_be_compared(evaluate: Evaluate, line: str, message: str) -> None:
    save_video("gt", SQUARE)
    Path("pred.jsonl").write_text(line)
    done = evaluate("pred.jsonl", "gt")
    assert (done.code, done.stdout) == (2, b"")
    assert done.error.startswith(message)


def test_an_unknown_format_is_refused_before_any_work(evaluate: Evaluate) -> None:
    done = evaluate("nowhere", "nothing", "--format", "xml")
    assert (done.code, done.error) == (2, "the format 'xml' is unknown; use table, jsonl, csv, tsv")


def test_a_reader_that_goes_away_ends_the_run_quietly() -> None:
    for number in range(50):
        save_video(f"gt/{number:04d}", SQUARE)
    process = subprocess.Popen([VISIONTK, "eval", "segment", "gt", "gt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (141, b"")


def test_ctrl_c_leaves_whole_lines_and_says_what_is_missing() -> None:
    save_video("clip", MASKS["larger/gt"])
    Path("gt").mkdir()
    for number in range(500):
        Path(f"gt/{number:04d}").symlink_to(Path("clip").absolute())
    process = subprocess.Popen([VISIONTK, "eval", "segment", "gt", "gt"], bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rest == b"" or rest.endswith(b"\n")
    assert all(json.loads(line)["J"] == 1 for line in rest.splitlines())
    assert said == b"visiontk: interrupted before all objects were measured; their mean is missing\n"


def test_help_imports_neither_numpy_nor_torch() -> None:
    code = (
        "import sys; from importlib.metadata import entry_points; (main,) = entry_points(group='console_scripts', name='visiontk');"
        "assert main.load()(['eval', 'segment', '--help']) == 0; assert not {'numpy', 'torch'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_masks_of_0_and_255_show_the_object_of_their_own_picture_and_void_is_none(evaluate: Evaluate) -> None:
    """As annotations of VOC have them: the number is the class, and 255 is around it."""
    for name, number in (("cat", 8), ("dog", 12)):
        truth = np.zeros((6, 8), np.uint8)
        truth[1:5, 1:6] = 255
        truth[2:4, 2:5] = number
        save(f"gt/{name}.png", truth)
        save(f"pred/{name}.png", ((truth == number) * 255).astype(np.uint8))
    found = evaluate("pred", "gt").records
    assert [line["mIoU"] for line in found if line.get("object") is None] == [1.0], found
    one = evaluate("pred/cat.png", "gt/cat.png")
    assert one.code == 0 and one.records[-1]["mIoU"] == 1.0
