"""spec/vectors, tried on the package."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import make_vectors
from ndferry import Error, _array, _messages, _wire
from ndferry._wire import HEADER_SIZE, TRAILER_SIZE, Kind
from vectors import DIRECTORY, Stanza, load


def params(name: str) -> list[object]:
    return [pytest.param(stanza, id=stanza["name"]) for stanza in load(name)]


def test_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    make_vectors.main(tmp_path)
    for file in sorted(tmp_path.iterdir()):
        assert file.read_bytes() == (DIRECTORY / file.name).read_bytes(), (
            f"run python/tools/make_vectors.py: {file.name}"
        )
    assert {file.name for file in tmp_path.iterdir()} | {"README.md"} == {file.name for file in DIRECTORY.iterdir()}


def read_frame(data: bytes, to_client: bool) -> tuple[str, _wire.Header | None]:
    """What a receiver finds: the class of failure, ``ok`` or ``skip``, and the header."""
    array = np.frombuffer(data, np.uint8)
    if len(data) < HEADER_SIZE:
        return "truncated header", None
    try:
        header = _wire.parse_header(array, to_client=to_client)
    except Error as error:
        return f"{error.code} header", None
    if header.length:
        end = HEADER_SIZE + header.length
        if len(data) < end:
            return "truncated payload", header
        if len(data) < end + TRAILER_SIZE:
            return "truncated trailer", header
        try:
            if not _wire.parse_trailer(array, _wire.crc32c(array[HEADER_SIZE:end]), end):
                return "aborted trailer", header
        except Error as error:
            return f"{error.code} trailer", header
        assert len(data) == end + TRAILER_SIZE
    return "ok" if header.known else "skip", header


@pytest.mark.parametrize("stanza", params("frames.txt"))
def test_frame(stanza: Stanza) -> None:
    result, header = read_frame(stanza.data, stanza["to"] == "client")
    assert result == stanza["expect"]
    if result == "ok":
        assert header is not None
        names = ("kind", "flags", "handles", "stream", "length", "index", "raw")
        assert dict(zip(names, header, strict=True)) == {name: int(value) for name, value in stanza.fields.items()}


@pytest.mark.parametrize("stanza", [s for s in load("frames.txt") if s["expect"] == "ok"], ids=lambda s: s["name"])
def test_pack_is_the_same_frame(stanza: Stanza) -> None:
    f = {name: int(value) for name, value in stanza.fields.items()}
    payload = stanza.data[HEADER_SIZE : HEADER_SIZE + f["length"]]
    assert _wire.pack_frame(Kind(f["kind"]), f["stream"], payload, index=f["index"], raw=f["raw"]) == stanza.data


def read_message(kind: Kind, payload: bytes) -> dict[str, Any]:
    message = _messages.parse(kind, payload)
    if kind in (Kind.PUT, Kind.META):
        _array.parse_array(message["array"], message.get("numpy"))
    return message


@pytest.mark.parametrize("stanza", params("messages.txt"))
def test_message(stanza: Stanza) -> None:
    kind = Kind[stanza["kind"]]
    if stanza["expect"] != "ok":
        with pytest.raises(Error) as caught:
            read_message(kind, stanza.data)
        assert caught.value.code in stanza.codes
        assert stanza.where == "json"
        return
    message = read_message(kind, stanza.data)
    expected = {name: json.loads(value) for name, value in stanza.fields.items()}
    if "attributes" in _messages._MEMBERS[kind]:
        expected["attributes"] = json.loads(expected.get("attributes", "{}"))
    assert message == expected


@pytest.mark.parametrize("stanza", params("digests.txt"))
def test_digest(stanza: Stanza) -> None:
    if "crc32c" in stanza.values:
        assert _wire.crc32c(stanza.data) == int(stanza["crc32c"], 16)
        assert _wire.crc32c(np.frombuffer(stanza.data, np.uint8)) == int(stanza["crc32c"], 16)
        return
    shape, cell, order = (tuple(json.loads(stanza[key])) for key in ("shape", "cell", "order"))
    layout = _array.make_layout(stanza["descr"], shape, order, cell)
    size, count = layout.cell_bytes, int(stanza["cells"])
    assert count == layout.cells
    assert len(stanza.data) == size * count
    leaves = b"".join(hashlib.sha256(stanza.data[i * size : (i + 1) * size]).digest() for i in range(count))
    assert layout.root(leaves) == stanza["root"]


@pytest.mark.parametrize("stanza", params("grids.txt"))
def test_grid(stanza: Stanza) -> None:
    shape, order = tuple(json.loads(stanza["shape"])), tuple(json.loads(stanza["order"]))
    cell = _array.default_cell(shape, int(stanza["itemsize"]), order, int(stanza["target"]))
    assert list(cell) == json.loads(stanza["cell"])


def test_root_of_the_spec() -> None:
    (stanza,) = [stanza for stanza in load("digests.txt") if stanza["name"] == "root-of-the-spec"]
    assert stanza["root"] == "e046e9b345eafdd0e67f4e7afd693e66b57c4457bdfd7ebd37527a42b25d1d06"
