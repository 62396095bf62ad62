"""The grammar of prompts: what each form means, how prompts come together, and what is said about wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiontk.errors import UsageError
from visiontk.prompts import Length, Point, Prompt, join, read, read_json, resolve

HALF = Length(50.0, True)


def px(value: float) -> Length:
    return Length(float(value), False)


def binary(name: str) -> list[int]:
    """The ids in a mask's file: none."""
    return []


def parse(texts: Sequence[str]) -> list[Prompt]:
    return join([read(text) for text in texts], binary)


def from_json(value: object, where: str) -> list[Prompt]:
    return join(read_json(value, where), binary)


def one(text: str) -> Prompt:
    (prompt,) = parse([text])
    return prompt


# --- what each form means


def test_a_point_without_a_place_is_the_centre() -> None:
    prompt = one("point")
    assert prompt == Prompt(1, 0, points=(Point(HALF, HALF, True),), text="point")
    assert resolve(prompt, 640, 360) == ([(320.0, 180.0)], [1], None)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("point:10,20", [(px(10), px(20), True)]),
        ("point:10.5,.25", [(px(10.5), px(0.25), True)]),
        ("point:50%,12.5%", [(HALF, Length(12.5, True), True)]),
        ("point:50%,20", [(HALF, px(20), True)]),
        ("point:-10,20", [(px(10), px(20), False)]),
        ("point:+10,20", [(px(10), px(20), True)]),
        ("point:1,2+3,4-5,6", [(px(1), px(2), True), (px(3), px(4), True), (px(5), px(6), False)]),
        ("point:-1,2-3,4%", [(px(1), px(2), False), (px(3), Length(4.0, True), False)]),
        (" point: 1 , 2 % + 3,4 ", [(px(1), Length(2.0, True), True), (px(3), px(4), True)]),
    ],
)
def test_points(text: str, points: list[tuple[Length, Length, bool]]) -> None:
    assert one(text).points == tuple(Point(*point) for point in points)


def test_boxes() -> None:
    assert one("box:1,2.5,30,40").box == (px(1), px(2.5), px(30), px(40))
    assert one("box:10%, 0, 100%, 40").box == (Length(10.0, True), px(0), Length(100.0, True), px(40))


@pytest.mark.parametrize(("text", "frame"), [("auto", 0), ("auto@30", 30)])
def test_auto(text: str, frame: int) -> None:
    assert one(text) == Prompt(None, frame, auto=True, text=text)


@pytest.mark.parametrize(
    ("text", "frame", "number"),
    [("point", 0, 1), ("point@7", 7, 1), ("point#3", 0, 3), ("point@7#3", 7, 3), ("point#3@7", 7, 3), ("point:1,2 @0#65535 ", 0, 65535)],
)
def test_frame_and_object(text: str, frame: int, number: int) -> None:
    prompt = one(text)
    assert (prompt.frame, prompt.object_id, prompt.text) == (frame, number, text)


@pytest.mark.parametrize(
    ("text", "name", "frame", "number"),
    [
        ("mask:a.png", "a.png", 0, None),
        ("mask:my masks/a b@x#y:z.png@4#2", "my masks/a b@x#y:z.png", 4, 2),
        ("mask:C:\\masks\\1.png", "C:\\masks\\1.png", 0, None),
        ("mask: spaces .png ", " spaces .png ", 0, None),
        ("mask:odd@3@0", "odd@3", 0, None),
        ("mask:odd#3#1", "odd#3", 0, 1),
        ("mask:odd@3#1@2", "odd@3", 2, 1),
        ("mask:no@digits", "no@digits", 0, None),
        ("mask:new\nline#5\n", "new\nline#5\n", 0, None),
    ],
)
def test_names_of_masks(text: str, name: str, frame: int, number: int | None) -> None:
    prompt = read(text)
    assert (prompt.mask, prompt.frame, prompt.object_id) == (name, frame, number)


lengths = st.builds(
    Length,
    st.decimals(0, 9999, places=2).map(float),
    st.booleans(),
)
points = st.builds(Point, lengths, lengths, st.booleans())
places = st.lists(points, min_size=1, max_size=6, unique_by=lambda point: (point.x, point.y))


def written(length: Length) -> str:
    return f"{length.value:.2f}" + "%" * length.percent


@given(places, st.integers(0, 10**9 - 1), st.integers(1, 65535), st.booleans())
def test_points_come_back_as_they_were_written(points: list[Point], frame: int, number: int, frame_first: bool) -> None:
    text = "point:" + "".join(f"{'+' if point.positive else '-'}{written(point.x)},{written(point.y)}" for point in points)
    text += f"@{frame}#{number}" if frame_first else f"#{number}@{frame}"
    assert one(text) == Prompt(number, frame, points=tuple(points), text=text)
    places = [[written(length) if length.percent else length.value for length in (point.x, point.y)] for point in points]
    entry = {"object": number, "frame": frame, "points": places, "labels": [int(point.positive) for point in points]}
    (prompt,) = from_json([entry], "x.json")
    assert prompt == Prompt(number, frame, points=tuple(points), text="entry 1 of x.json")


@given(st.text(min_size=1), st.integers(0, 10**9 - 1), st.integers(1, 65535))
def test_any_name_of_a_mask_comes_back(name: str, frame: int, number: int) -> None:
    if name.strip():
        prompt = one(f"mask:{name}@{frame}#{number}")
        assert (prompt.mask, prompt.frame, prompt.object_id) == (name, frame, number)
    (prompt,) = from_json([{"mask": name}], "x.json")
    assert prompt.mask == name


@given(st.one_of(st.text(), st.text(alphabet="pointbxmaskuto:,.+-%@#0123456789 ")))
def test_any_text_is_a_prompt_or_an_error_with_a_cure(text: str) -> None:
    try:
        one(text)
    except UsageError as error:
        assert str(error).startswith(f'the prompt "{text}" ') and "; " in str(error)


# --- numbers, and prompts that come together


def numbers(*texts: str) -> list[tuple[int, int | None]]:
    return [(prompt.frame, prompt.object_id) for prompt in parse(texts)]


def test_prompts_without_an_id_are_new_objects() -> None:
    assert numbers("point:1,1", "point:2,2@5", "box:1,1,2,2") == [(0, 1), (0, 3), (5, 2)]


def test_new_objects_leave_out_the_ids_that_are_named() -> None:
    assert numbers("point:1,1", "point:2,2#1", "point:3,3", "point:4,4#3@9") == [(0, 1), (0, 2), (0, 4), (9, 3)]
    assert [prompt.points[0].x.value for prompt in parse(["point:1,1", "point:2,2#1", "point:3,3"])] == [2, 1, 3]


def test_prompts_are_sorted_by_frame_and_then_by_object() -> None:
    assert numbers("point#9", "point@3#2", "auto@1", "point@3#1", "auto") == [(0, None), (0, 9), (1, None), (3, 1), (3, 2)]


def test_points_and_a_box_of_one_object_on_one_frame_come_together() -> None:
    prompt = parse(["point:1,2#4", "box:1,1,9,9#4", "point:-3,4#4", "point:5,6#4@1"])[0]
    assert [(point.x.value, point.positive) for point in prompt.points] == [(1, True), (3, False)]
    assert prompt.box == (px(1), px(1), px(9), px(9))
    assert prompt.text == "point:1,2#4 box:1,1,9,9#4 point:-3,4#4"


def test_auto_twice_is_auto() -> None:
    assert parse(["auto", "auto"]) == [Prompt(None, 0, auto=True, text="auto")]


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("box:1,1,2,2#1", "box:3,3,4,4#1", "two boxes for object 1 on frame 0"),
        ("mask:a.png#7@3", "mask:b.png@3#7", "two masks for object 7 on frame 3"),
        ("mask:a.png#7", "point#7", "a mask and something else"),
        ("box:1,1,2,2#7", "mask:a.png#7", "a mask and something else"),
    ],
)
def test_conflicts_name_both_prompts(first: str, second: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        parse([first, second])
    assert f'"{first}" and "{second}"' in str(caught.value)
    parse([first.replace("#", "@8#").replace("@3", ""), second])  # on another frame it is a correction


def test_files_of_masks_have_the_ids_that_are_in_them() -> None:
    texts = ["mask:binary.png", "point:1,1", "mask:indexed.png@2"]
    inside = {"binary.png": [], "indexed.png": [1, 4]}
    joined = join([read(text) for text in texts], inside.__getitem__)
    assert [(prompt.frame, prompt.object_id, prompt.mask) for prompt in joined] == [
        (0, 2, "binary.png"),
        (0, 3, None),
        (2, 1, "indexed.png"),
        (2, 4, "indexed.png"),
    ]
    with pytest.raises(UsageError, match=r"two masks for object 4.*"):
        join([read("mask:indexed.png"), read("mask:x.png#4")], inside.__getitem__)


def test_prompts_of_several_places_are_numbered_together() -> None:
    joined = join([read("point"), *read_json([{"box": [1, 1, 2, 2]}, {"object": 1, "points": [[1, 1]]}], "p.json")], binary)
    assert [(prompt.object_id, prompt.text) for prompt in joined] == [(1, "entry 2 of p.json"), (2, "point"), (3, "entry 1 of p.json")]


@pytest.mark.parametrize(
    ("texts", "conflict"),
    [
        (("point:5,5#1", "point:-5,5#1"), True),
        (("point:-50%,5#1@3", "point:50%,5#1@3"), True),
        (("point:5,5-5,5#1", "point:6,5#1"), True),
        (("point:5,5#1", "point:-5,6#1"), False),
        (("point:5,5#1", "point:-5,5#2"), False),
        (("point:5,5#1@0", "point:-5,5#1@4"), False),
        (("point:5,5#1", "point:5,5#1"), False),
    ],
)
def test_a_place_that_is_and_is_not_of_an_object_is_refused(texts: tuple[str, str], conflict: bool) -> None:
    prompts = [read(text) for text in texts]
    if conflict:
        with pytest.raises(UsageError, match="says that one place is and is not of object 1 on frame"):
            join(prompts, binary)
    else:
        assert sum(len(prompt.points) for prompt in join(prompts, binary)) == 2


# --- JSON


def test_the_json_form() -> None:
    rle = {"size": [2, 2], "counts": "4"}
    value: list[Any] = [
        {"object": 2, "frame": 3, "points": [[1, 2.5], ["50%", 4]], "labels": [1, 0], "box": [0, 0, "50%", 9]},
        {"points": [[5, 6]]},
        {"mask": "file#1.png", "object": 9},
        {"mask": rle},
        {"mask": "unknown.png"},
    ]
    assert from_json(value, "p.json") == [
        Prompt(1, 0, points=(Point(px(5), px(6), True),), text="entry 2 of p.json"),
        Prompt(3, 0, mask=rle, text="entry 4 of p.json"),
        Prompt(4, 0, mask="unknown.png", text="entry 5 of p.json"),
        Prompt(9, 0, mask="file#1.png", text="entry 3 of p.json"),
        Prompt(
            2,
            3,
            points=(Point(px(1), px(2.5), True), Point(HALF, px(4), False)),
            box=(px(0), px(0), HALF, px(9)),
            text="entry 1 of p.json",
        ),
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (5, "no JSON object"),
        ({}, "shows nothing"),
        ({"points": []}, "shows nothing"),
        ({"point": [[1, 2]]}, 'unknown key "point"'),
        ({"object": 0, "points": [[1, 2]]}, "no id: 0"),
        ({"object": True, "points": [[1, 2]]}, "no id: True"),
        ({"object": "1", "points": [[1, 2]]}, "no id: '1'"),
        ({"object": 65536, "points": [[1, 2]]}, "no id: 65536"),
        ({"frame": -1, "points": [[1, 2]]}, '"frame"'),
        ({"frame": 1.0, "points": [[1, 2]]}, '"frame"'),
        ({"points": [1, 2]}, '"points"'),
        ({"points": [[1, 2, 3]]}, '"points"'),
        ({"points": {"x": 1}}, '"points"'),
        ({"points": [[1, 2]], "labels": [1, 0]}, '"labels"'),
        ({"points": [[1, 2]], "labels": [2]}, '"labels"'),
        ({"box": [1, 2, 3, 4], "labels": [1]}, '"labels"'),
        ({"points": [["1", 2]]}, "coordinate that is none: '1'"),
        ({"points": [["-1%", 2]]}, "coordinate"),
        ({"points": [[-1, 2]]}, "coordinate that is none: -1"),
        ({"points": [[None, 2]]}, "coordinate"),
        ({"points": [[float("nan"), 2]]}, "coordinate"),
        ({"points": [[10**400, 2]]}, "coordinate"),
        ({"box": [1, 2, 3]}, '"box"'),
        ({"box": [5, 2, 3, 4]}, "right edge left of its left edge"),
        ({"mask": ""}, '"mask"'),
        ({"mask": {"counts": "4"}}, '"mask"'),
        ({"mask": "a.png", "points": [[1, 2]]}, "mask together with points"),
    ],
    ids=str,
)
def test_wrong_entries_are_named(entry: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_json([{"points": [[1, 2]]}, entry], "my.json")
    assert message in str(caught.value) and "entry 2 of my.json" in str(caught.value) and "; " in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [None, {}, "point", 5])
def test_what_is_no_list_is_named(value: Any) -> None:
    with pytest.raises(UsageError, match=r"my\.json is no list of prompts"):
        from_json(value, "my.json")


# --- pixels


def test_percent_is_of_the_upright_picture() -> None:
    prompt = parse(["point:25%,100%-0,30#1", "box:10%,20,90%,50%#1"])[0]
    assert resolve(prompt, 200, 80) == ([(50.0, 80.0), (0.0, 30.0)], [1, 0], (20.0, 20.0, 180.0, 40.0))


@pytest.mark.parametrize("text", ["point:641,10", "point:10,360.5", "point:101%,5", "point:1,1-700,1", "box:0,0,641,10", "box:0,0,10,101%"])
def test_what_lies_outside_the_picture(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(one(text), 640, 360)
    assert f'"{text}" lies outside the picture, which is 640x360; write X from 0 to 640' in str(caught.value)


def loose(*box: Any) -> Prompt:
    (prompt,) = read_json([{"box": list(box)}], "a record", loose=True)
    return prompt


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((-0.4, -7, 640.3, 361), (0, 0, 640, 360)),
        ((600, 300, 900, 359.5), (600, 300, 640, 359.5)),
        (("90%", 10, "110%", 20), (576, 10, 640, 20)),
        ((1, 2, 3, 4), (1, 2, 3, 4)),
    ],
)
def test_a_loose_box_is_cut_to_the_picture(box: tuple[Any, ...], inside: tuple[float, ...]) -> None:
    assert resolve(loose(*box), 640, 360)[2] == inside


@pytest.mark.parametrize("box", [(-9, 5, -1, 20), (640, 0, 700, 10), (0, 360, 10, 361)])
def test_a_loose_box_that_lies_beside_the_picture(box: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError, match='entry 1 of a record" lies outside the picture, which is 640x360'):
        resolve(loose(*box), 640, 360)


def test_a_loose_prompt_has_strict_points() -> None:
    with pytest.raises(UsageError, match="coordinate that is none: -1"):
        read_json([{"points": [[-1, 2]]}], "a record", loose=True)
    with pytest.raises(UsageError, match="right edge left of its left edge"):
        loose(5, 2, -3, 4)
    with pytest.raises(UsageError, match="coordinate"):
        loose(float("nan"), 2, 3, 4)
    with pytest.raises(UsageError, match="lies outside"):
        resolve(read_json([{"points": [[641, 2]], "box": [0, 0, 641, 2]}], "a record", loose=True)[0], 640, 360)


def test_the_edge_of_the_picture_is_inside() -> None:
    assert resolve(one("box:0,0,640,100%"), 640, 360)[2] == (0, 0, 640, 360)
    assert resolve(one("point:640,360"), 640, 360)[0] == [(640, 360)]


def test_boxes_whose_edges_can_be_compared_only_with_the_size() -> None:
    prompt = one("box:50%,0,100,10")
    assert resolve(prompt, 150, 20)[2] == (75, 0, 100, 10)
    with pytest.raises(UsageError, match="right edge left of its left edge"):
        resolve(prompt, 300, 20)
    with pytest.raises(UsageError, match="no width"):
        resolve(prompt, 200, 20)


# --- what is wrong, and what to do


@pytest.mark.parametrize(
    ("text", "wrong", "cure"),
    [
        ("", 'starts with ""', "write point:X,Y, box:X0,Y0,X1,Y1, mask:FILE.png or auto"),
        ("dog", 'starts with "dog", which is no kind of prompt', "write point:X,Y"),
        ("Point:1,2", 'starts with "Point"', "write point:X,Y"),
        ("point:", "has nothing after its colon", "write point:X,Y"),
        ("point:1", "is no list of points", "write point:X,Y with X and Y in pixels or percent"),
        ("point:1,2,3,4", "is no list of points", "after + or -"),
        ("point:1,2 3,4", "is no list of points", "after + or -"),
        ("point:1,-2", "is no list of points", "write point:X,Y"),
        ("point:1e3,2", "is no list of points", "write point:X,Y"),
        ("point:nan,2", "is no list of points", "write point:X,Y"),
        ("box", "is no box of four numbers", "write box:X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1"),
        ("box:1,2,3", "is no box of four numbers", "write box:X0,Y0,X1,Y1"),
        ("box:10,20,5,40", "has its right edge left of its left edge", "write box:X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1"),
        ("box:1%,20%,5%,4%", "has its bottom edge above its top edge", "write box:X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1"),
        ("box:5,2,5,4", "has no width", "X0 < X1"),
        ("box:4,2,5,2", "has no height", "Y0 < Y1"),
        ("mask", "names no file", "write mask:FILE.png"),
        ("auto:all", "has a value", "write auto"),
        ("auto#1", "has an object's id", "write auto, or auto@FRAME"),
        ("point@-1", "has a frame or an object that is no whole number", "end it with @FRAME from 0 on, #ID from 1 on"),
        ("point@1.5", "has a frame or an object", "end it with @FRAME"),
        ("box:1,2,3,4#a", "has a frame or an object", "end it with @FRAME"),
        ("point#1#2", "has a frame or an object that is no whole number, or two", "end it with @FRAME"),
        ("point#0", "names object 0", "write an id from 1 to 65,535"),
        ("point#65536", "names object 65536", "write an id from 1 to 65,535"),
        ("point@" + "9" * 5000, "has a number of 5000 digits after its @", "write the frame from 0 on"),
    ],
)
def test_every_error_names_the_prompt_and_its_cure(text: str, wrong: str, cure: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(["point", text])
    said, _, told = str(caught.value).partition("; ")
    assert said.startswith(f'the prompt "{text}" {wrong}')
    assert cure in told
