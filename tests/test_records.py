"""The record: one line of JSON, whatever the name of the file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiontk.errors import ItemError
from visiontk.records import decode, encode, schema

names = st.one_of(st.text(), st.binary(min_size=1).map(os.fsdecode))


@given(names)
def test_any_file_name_survives_the_pipe(name: str) -> None:
    line = encode({"path": name})
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    line.decode("utf-8")  # valid, whatever bytes the name holds
    assert decode(line) == {"path": name}


def test_bytes_that_are_not_utf8_are_written_as_escapes() -> None:
    assert encode({"path": os.fsdecode(b"caf\xe9.jpg")}) == b'{"path": "caf\\udce9.jpg"}\n'


def test_text_is_written_as_it_is() -> None:
    assert encode({"path": "ä 🐈"}).decode() == '{"path": "ä 🐈"}\n'


def test_keys_keep_their_order() -> None:
    assert list(decode(b'{"z": 1, "path": "x", "a": 2}')) == ["z", "path", "a"]


def test_nan_is_not_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"score": float("nan")})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"path": ', "not a JSON line"),
        (b"[1]", "a JSON list and not an object"),
        (b'{"path": 3}', "its path is not a string"),
        (b'{"path": "v.mp4", "frame": -1}', "its frame is not a number from 0 on"),
        (b'{"path": "v.mp4", "frame": true}', "its frame is not a number from 0 on"),
        (b'{"path": "x", "score": NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "not a JSON line"),
    ],
)
def test_a_line_that_is_no_record_says_why(line: bytes, complaint: str) -> None:
    with pytest.raises(ItemError, match=complaint) as caught:
        decode(line)
    assert caught.value.kind == "bad_record"


def test_the_schema_is_a_schema_and_refuses_scores_above_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    good = {
        "path": "x",
        "classify": {"model": "m", "revision": "r", "labels": [{"label": "cat", "index": 1, "score": 0.5}], "seconds": 0.1},
    }
    jsonschema.validate(good, schema())
    bad = json.loads(json.dumps(good))
    bad["classify"]["labels"][0]["score"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema())


def test_every_kind_of_error_is_in_the_schema_and_in_the_documentation() -> None:
    root = Path(__file__).parent.parent
    sources = [file.read_text("utf-8") for folder in ("visiontk", "commands") for file in (root / folder).rglob("*.py")]
    used = {kind for text in sources for kind in re.findall(r'ItemError\(\s*"(\w+)"', text)}
    assert {"missing", "broken", "not_finite"} < used
    assert set(schema()["$defs"]["error"]["properties"]["error"]["properties"]["kind"]["enum"]) == used
    assert set(re.findall(r"``(\w+)``", str(ItemError.__doc__))) - {"kind"} == used
