"""Receipts and descriptions that differ from earlier ones in id and time alone are not read anew: it must not show."""

from __future__ import annotations

import json
from typing import Any

import pytest

import ndferry
from ndferry import _messages, _payloads
from ndferry._wire import Kind
from test_core import META_MESSAGE, RECEIPT_MESSAGE

IDS = ["0" * 32, "f" * 32, "0123456789abcdef0123456789abcdef"]
TIMES = ["2026-01-02T03:04:05Z", "2026-12-31T23:59:59.123456789Z", "2000-01-01T00:00:00.5Z"]


def text(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("created", TIMES)
@pytest.mark.parametrize("name", ["a", "b/é"])
def test_receipts(id: str, created: str, name: str) -> None:
    payload = text(RECEIPT_MESSAGE | {"id": id, "created": created, "name": name})
    for _ in range(2):
        receipt = _payloads.receipt(payload)
        assert receipt == _payloads._receipt(payload)
        assert (receipt.id, receipt.name) == (id, name)
        assert receipt.created == _messages.time_of(created)


@pytest.mark.parametrize("id", IDS)
def test_descriptions(id: str) -> None:
    attributes = {"id": "1" * 32, "created": "2026-01-02T03:04:05Z", 'x","id":"' + "2" * 32 + '"': 1}
    payload = text(META_MESSAGE | {"id": id, "attributes": json.dumps(attributes, separators=(",", ":"))})
    for _ in range(2):
        found, stat, layout = _payloads.meta_to_read(payload)
        assert (found, stat.attrs) == (id, attributes)
        assert (layout, stat.digest) == (_payloads.meta(payload)[1], _payloads.meta(payload)[0].digest)


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.replace(b'"created":"2026-01', b'"created":"2026-13'),
        lambda t: t.replace(b'"id":"0', b'"id":"g'),
        lambda t: t.replace(b'"id":"0', b'"id":"'),
        lambda t: t[:-1] + b',"id":"' + b"0" * 32 + b'"}',
        lambda t: t[:-1] + b',"created":"2026-01-02T03:04:05Z"}',
        lambda t: t.replace(b'Z"', b'"'),
        lambda t: t[1:],
        lambda t: t.replace(b'"nbytes":20', b'"nbytes":-20'),
    ],
)
def test_what_is_wrong_is_refused_all_the_same(damage: Any) -> None:
    good = text(RECEIPT_MESSAGE | {"id": IDS[0], "created": TIMES[0]})
    _payloads.receipt(good)
    assert damage(good) != good
    with pytest.raises(ndferry.Error):
        _payloads.receipt(damage(good))
    with pytest.raises(ndferry.Error):
        _messages.time_of(_messages.parse(Kind.RECEIPT, damage(good))["created"])
