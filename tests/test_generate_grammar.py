"""What pictures are wanted: lists of seeds, sizes, sweeps, and lines of prompts with options of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from visiontk import orders, seeds
from visiontk.errors import ItemError, UsageError
from visiontk.orders import Defaults, Order, Sweep


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("7", (7,)), ("1,2,10-13", (1, 2, 10, 11, 12, 13)), (" 3 , 1 ", (3, 1)), ("5-5", (5,)), ("0", (0,)), (str(2**63 - 1), (2**63 - 1,))],
)
def test_a_list_of_seeds(text: str, wanted: tuple[int, ...]) -> None:
    assert seeds.parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no list of seeds"),
        ("1,,2", "no list of seeds"),
        ("-1", "no list of seeds"),
        ("1.5", "no list of seeds"),
        ("1-", "no list of seeds"),
        ("20-10", "backwards; write 10-20"),
        ("1,2,1", "the seed 1 twice"),
        ("1,0-3", "the seed 1 twice"),
        (str(2**63), "too large"),
        ("0-1000000", "more than 1,000,000"),
    ],
)
def test_what_is_no_list_of_seeds_says_why(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        seeds.parse(text)


def test_sizes() -> None:
    assert seeds.parse_size("512x768") == (512, 768)
    assert seeds.parse_size(" 64 X 32 ") == (64, 32)
    for text in ("512", "0x64", "x", "64x64x64", "-1x5", "a x b"):
        with pytest.raises(UsageError, match="write WIDTHxHEIGHT"):
            seeds.parse_size(text)


# --- sweeps


def test_sweeps_have_the_type_of_their_option() -> None:
    assert orders.parse_sweeps(
        ["steps=10,20", "guidance=3, 7.5", "clip-skip=1,2", "size=64x64,32x64", "seed=1,5-6", "scheduler=euler,ddim"]
    ) == (
        Sweep("steps", (10, 20)),
        Sweep("guidance", (3.0, 7.5)),
        Sweep("clip_skip", (1, 2)),
        Sweep("size", ((64, 64), (32, 64))),
        Sweep("seed", (1, 5, 6)),
        Sweep("scheduler", ("euler", "ddim")),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("steps", "write NAME=VALUE,VALUE"),
        ("colour=red,blue", "one of steps, guidance, strength, clip_skip, scheduler, size, lora, seed"),
        ("steps=", "no whole number"),
        ("steps=10,x", '"x" is no whole number'),
        ("steps=1.5", "no whole number"),
        ("guidance=nan", "finite"),
        ("guidance=a", "no number"),
        ("steps=10,10", "twice"),
        ("guidance=3,3.0", "twice"),
        ("scheduler=euler,", "missing between the commas"),
        ("size=64", "WIDTHxHEIGHT"),
        ("seed=3-1", "backwards"),
    ],
)
def test_a_sweep_that_makes_no_sense_says_why(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        orders.parse_sweeps([text])


def test_an_option_is_swept_once() -> None:
    with pytest.raises(UsageError, match="steps=VALUE,VALUE"):
        orders.parse_sweeps(["steps=1,2", "steps=3"])


# --- which pictures


def made(order: Order, defaults: Defaults) -> list[tuple[int, dict[str, Any]]]:
    found = list(orders.pictures(order, defaults))
    assert len(found) == orders.count(order, defaults)
    return [(one.seed, one.options) for one in found]


def test_seeds_of_a_prompt() -> None:
    prompt = Order("a cat")
    assert made(prompt, Defaults()) == [(0, {})]
    assert made(prompt, Defaults(first=9)) == [(9, {})]
    assert made(prompt, Defaults(first=9, count=3)) == [(9, {}), (10, {}), (11, {})]
    assert made(prompt, Defaults(seeds=(4, 2), first=9)) == [(4, {}), (2, {})]
    assert made(prompt, Defaults(seeds=(4,), count=2)) == [(4, {}), (5, {})]


def test_a_line_counts_before_the_command_line() -> None:
    given = Defaults({"steps": 20, "guidance": 5.0}, seeds=(1,), count=2)
    assert made(Order("a cat", {"steps": 3}), given) == [(1, {"steps": 3, "guidance": 5.0}), (2, {"steps": 3, "guidance": 5.0})]
    assert [seed for seed, _ in made(Order("a cat", seeds=(7,)), given)] == [7, 8]
    assert [seed for seed, _ in made(Order("a cat", seeds=(7, 9)), given)] == [7, 9]
    assert [seed for seed, _ in made(Order("a cat", count=3), given)] == [1, 2, 3]


def test_a_number_beside_a_list_of_seeds_is_refused() -> None:
    for order, given in (
        (Order("a cat"), Defaults(seeds=(1, 2), count=2)),
        (Order("a cat", count=2), Defaults(seeds=(1, 2))),
        (Order("a cat", seeds=(1, 2), count=1), Defaults()),
    ):
        with pytest.raises(UsageError, match="2 seeds make 2 pictures"):
            list(orders.pictures(order, given))
        assert orders.count(order, given) == 1, "the one line that says so"


def test_sweeps_make_the_product_with_seeds_innermost() -> None:
    given = Defaults({"negative": "rain"}, count=2, sweeps=orders.parse_sweeps(["steps=1,2", "guidance=3,7"]))
    found = [(one.options["steps"], one.options["guidance"], one.seed) for one in orders.pictures(Order("a cat"), given)]
    assert found == [(1, 3, 0), (1, 3, 1), (1, 7, 0), (1, 7, 1), (2, 3, 0), (2, 3, 1), (2, 7, 0), (2, 7, 1)]
    one = next(orders.pictures(Order("a cat"), given))
    assert (one.options["negative"], one.swept) == ("rain", {"steps": 1, "guidance": 3.0})


def test_seeds_can_be_swept() -> None:
    given = Defaults(sweeps=orders.parse_sweeps(["seed=5,7", "steps=1,2"]))
    assert made(Order("a cat"), given) == [(5, {"steps": 1}), (5, {"steps": 2}), (7, {"steps": 1}), (7, {"steps": 2})]


def test_what_is_swept_cannot_be_in_a_line_as_well() -> None:
    given = Defaults(sweeps=orders.parse_sweeps(["steps=1,2"]))
    with pytest.raises(UsageError, match="steps is swept"):
        list(orders.pictures(Order("a cat", {"steps": 3}), given))
    given = Defaults(sweeps=orders.parse_sweeps(["seed=1,2"]))
    with pytest.raises(UsageError, match="seed is swept"):
        list(orders.pictures(Order("a cat", seeds=(3,)), given))


# --- lines


def test_a_line_of_text_is_a_prompt() -> None:
    order = orders.read_line('  a "red" apple, 50 % ', "line 3 of p.txt")
    assert (order.prompt, order.options, order.seeds, order.count) == ('  a "red" apple, 50 % ', {}, None, None)


def test_a_line_of_json_has_options() -> None:
    line = {"prompt": "a cat", "negative": "", "seed": "1,4-5", "steps": 7, "guidance": 3, "size": [64, 32], "scheduler": "ddim"}
    line |= {"clip_skip": 1, "strength": 0.5, "init": "caf\udce9.png", "mask": {"size": [2, 2], "counts": "04"}}
    order = orders.read_line(json.dumps(line), "line 1 of p.jsonl")
    assert order.options == {
        "negative": "",
        "steps": 7,
        "guidance": 3.0,
        "size": (64, 32),
        "scheduler": "ddim",
        "clip_skip": 1,
        "strength": 0.5,
    }
    assert (order.prompt, order.seeds, order.init, order.mask) == ("a cat", (1, 4, 5), "caf\udce9.png", {"size": [2, 2], "counts": "04"})
    assert orders.read_line('{"prompt": "a", "size": "64x32", "seed": 5, "n": 2}', "").options == {"size": (64, 32)}
    assert orders.read_line('{"prompt": "a", "steps": null}', "").options == {}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"prompt": "a"', "not a JSON line"),
        ('{"negative": "a"}', 'there is no "prompt"'),
        ('{"prompt": ""}', "empty"),
        ("", "empty"),
        ('{"prompt": "\\ud800"}', "not UTF-8"),
        ('{"prompt": 5}', '"prompt" is 5 and not a string'),
        ('{"prompt": "a", "stpes": 5}', '"stpes" is no option; there are prompt, negative'),
        ('{"prompt": "a", "steps": "5"}', "\"steps\" is '5' and not a whole number"),
        ('{"prompt": "a", "steps": true}', "not a whole number"),
        ('{"prompt": "a", "steps": 0}', "not a whole number from 1 on"),
        ('{"prompt": "a", "guidance": "high"}', "not a number"),
        ('{"prompt": "a", "guidance": 1e999}', "finite"),
        ('{"prompt": "a", "size": [1, 2, 3]}', '"size" is'),
        ('{"prompt": "a", "seed": -1}', '"seed" is -1'),
        ('{"prompt": "a", "seed": [1]}', '"seed" is'),
        ('{"prompt": "a", "n": 0}', '"n" is 0'),
        ('{"prompt": "a", "seed": "1,2", "n": 2}', "2 seeds make 2 pictures"),
        ('{"prompt": "a", "init": 3}', "not the name of a file"),
        ('{"prompt": "a", "mask": {}}', "not the name of a file"),
    ],
)
def test_a_broken_line_names_itself_and_says_why(line: str, complaint: str) -> None:
    with pytest.raises(ItemError, match=complaint) as caught:
        orders.read_line(line, "line 12 of prompts.jsonl")
    assert (caught.value.kind, caught.value.message.startswith("line 12 of prompts.jsonl: ")) == ("bad_record", True)


def test_a_piped_record_may_hold_other_keys_and_no_prompt() -> None:
    order = orders.read_line('{"path": "a.png", "segment": {}, "seed": 3}', "line 1 of the pipe", piped=True)
    assert (order.prompt, order.seeds, order.record) == (None, (3,), {"path": "a.png", "segment": {}, "seed": 3})
    with pytest.raises(UsageError, match='there is no "prompt"'):
        list(orders.pictures(order, Defaults()))


def test_options_are_said_as_lines_have_them() -> None:
    said = orders.said({"size": (64, 32), "steps": None, "guidance": 3.0, "negative": ""})
    assert said == {"size": "64x32", "guidance": 3.0, "negative": ""}
    assert orders.read_line(json.dumps({"prompt": "a", **said}), "").options == {"size": (64, 32), "guidance": 3.0, "negative": ""}
