"""The clients of today hear what servers of version 1 said, and ask and return what they did then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozen import ROOT, Player, Transcript, make

RECORDINGS = sorted((ROOT / "conversations").glob("py-*.txt"))


def test_there_are_recordings() -> None:
    assert len(RECORDINGS) >= 11


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recording(path: Path, connect: Callable[..., Any], tmp_path: Path) -> None:
    transcript = Transcript(path)
    player = Player(transcript, str(tmp_path / "player"))
    try:
        with connect(f"unix://{tmp_path}/player", timeout=60, retries=0) as client:
            for call in transcript.calls:
                assert make(client, call) == call["result"], call
    finally:
        player.end()
