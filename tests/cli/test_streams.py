"""Standard streams: what they cannot take never ends a run."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from fedsim.cli.streams import Lasting


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_encoding_lacks_becomes_a_question_mark(encoding: str) -> None:
    raw = io.BytesIO()
    stream = Lasting(io.TextIOWrapper(raw, encoding=encoding))
    stream.write("AUROC ↑\n")
    stream.flush()
    assert raw.getvalue() == b"AUROC ?\n"
    assert stream.encoding == encoding


def test_a_closed_stream_takes_everything() -> None:
    stream = Lasting(None)
    assert stream.write("round 1") == 7
    stream.flush()
    assert not stream.isatty()
    assert stream.error is None
    stream._stream.close()


def test_a_reader_that_goes_away_is_remembered_and_nothing_else() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:  # closing it must not fail either  # noqa: PTH123
        stream = Lasting(pipe)
        for _ in range(2):
            stream.write("round 1\n")
            stream.flush()
    assert isinstance(stream.error, BrokenPipeError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_disk_is_remembered() -> None:
    with Path("/dev/full").open("w") as full:
        stream = Lasting(full)
        stream.write("results")
        stream.flush()
    assert stream.error is not None
    assert stream.error.errno == errno.ENOSPC
