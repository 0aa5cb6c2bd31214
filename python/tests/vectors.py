"""Reads spec/vectors: the format is in its README.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[2] / "spec" / "vectors"


@dataclass
class Stanza:
    values: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    data: bytes = b""

    def __getitem__(self, key: str) -> str:
        return self.values[key]

    @property
    def codes(self) -> list[str]:
        """The codes of a failure that are right."""
        return self["expect"].split()[0].split("|")

    @property
    def where(self) -> str:
        return self["expect"].split()[1]


def load(name: str) -> list[Stanza]:
    stanzas = []
    for block in (DIRECTORY / name).read_text("utf-8").split("\n\n"):
        stanza = Stanza()
        for line in block.strip("\n").split("\n"):
            if line.startswith("#"):
                continue
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "field":
                member, _, content = value.partition(" ")
                stanza.fields[member] = content
            elif key == "hex":
                stanza.data += unhex(value)
            else:
                assert key not in stanza.values, (name, line)
                stanza.values[key] = value
        if stanza.values:
            if "json" in stanza.values:
                stanza.data = stanza["json"].encode()
            stanzas.append(stanza)
    return stanzas


def unhex(text: str) -> bytes:
    data = b""
    for token in text.split():
        byte, star, count = token.partition("*")
        data += bytes.fromhex(byte) * (int(count) if star else 1)
    return data
