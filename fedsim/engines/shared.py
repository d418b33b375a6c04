"""Arrays that several processes read, in shared memory.

One process makes a block and unlinks it; others attach by name. A process that is killed leaves
nothing behind: Python's resource tracker, which outlives it, unlinks what it made.

On Linux blocks are files of a file system in memory, which finds memory for them at the first write
and not before; where it finds none, as in a container that was given little, it ends the process
that writes (SIGBUS). So memory is taken before anything is written.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedsim.errors import RunError
from fedsim.flower.wire import Buffer, buffers, from_buffer

FOLDER = Path("/dev/shm")
"""Where Linux keeps blocks."""
ALIGNED = 64
"""Bytes; so that arrays begin where processors like them to."""


def aligned(num_bytes: int) -> int:
    """Return so many bytes or a few more, after which an array may begin."""
    return -(-num_bytes // ALIGNED) * ALIGNED


def new_name() -> str:
    """Return a name that says which process gave it; 31 characters are the limit of macOS."""
    return f"fedsim-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def check_room(num_bytes: int) -> None:
    """Refuse to begin where shared memory has less room than will be needed.

    Raises:
        RunError: if it has, on a system that tells.
    """
    if FOLDER.is_dir():
        found = os.statvfs(FOLDER)
        if found.f_blocks and num_bytes > found.f_bavail * found.f_frsize:  # no blocks: no limit
            raise _too_small(num_bytes)


def take(block: str, start: int, num_bytes: int) -> None:
    """Have the system find memory for some bytes of a block, unless it did before.

    Args:
        block: its name.
        start: the first byte.
        num_bytes: how many.

    Raises:
        RunError: if there is not so much left.
    """
    if not (FOLDER.is_dir() and num_bytes):
        return
    file = os.open(FOLDER / block, os.O_RDWR)
    try:
        os.posix_fallocate(file, start, num_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM):  # else it stays as without asking
            raise _too_small(num_bytes) from error
    finally:
        os.close(file)


def _too_small(num_bytes: int) -> RunError:
    found = os.statvfs(FOLDER)
    return RunError(
        f"shared memory ({FOLDER}) is too small for workers: {num_bytes / 1e6:.1f} MB are needed, "
        f"{found.f_bavail * found.f_frsize / 1e6:.1f} MB are free. Use --workers 1, or give it "
        "more; in Docker: docker run --shm-size=8g"
    )


class Made:
    """A block that this process made and will unlink.

    Args:
        num_bytes: size.
        name: of the block, that no other has.
    """

    def __init__(self, num_bytes: int, name: str) -> None:
        self.memory = SharedMemory(name, create=True, size=max(1, num_bytes))

    @property
    def buffer(self) -> memoryview:
        """The bytes of the block."""
        return _buffer(self.memory)

    def take(self) -> Made:
        """Return the block once there is memory for all of it; it is gone if there is not.

        Raises:
            RunError: if there is not so much left.
        """
        try:
            take(self.memory.name, 0, self.memory.size)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Give the memory back once nobody is attached."""
        self.memory.close()
        self.memory.unlink()


class Blocks:
    """The blocks that this process makes, to be given back whatever interrupts it meanwhile.

    A block is noted before it is made and until it is gone.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()

    def make(self, num_bytes: int) -> Made:
        """Return a new block, whose memory is still to be taken."""
        name = new_name()
        self._names.add(name)
        return Made(num_bytes, name)

    def give_back(self, made: Made) -> None:
        """Give back one block."""
        made.close()
        self._names.discard(made.memory.name)

    def close(self) -> None:
        """Give back what is left, also what was being made or given back."""
        for name in list(self._names):
            unlink(name)
            self._names.discard(name)


class Attached:
    """Blocks of another process, attached when first asked for."""

    def __init__(self) -> None:
        self._blocks: dict[str, SharedMemory] = {}

    def memory(self, block: str) -> memoryview:
        """Return the bytes of a block."""
        if block not in self._blocks:
            self._blocks[block] = SharedMemory(block)
        return _buffer(self._blocks[block])

    def forget(self, block: str) -> None:
        """Detach from a block that will not be asked for again."""
        if block in self._blocks:
            self._blocks.pop(block).close()

    def close(self) -> None:
        """Detach from all blocks."""
        for block in list(self._blocks):
            self.forget(block)


def unlink(name: str) -> None:
    """Give back a block whose maker died or was interrupted, if there is one of this name."""
    try:
        memory = SharedMemory(name)
    except FileNotFoundError:
        return
    memory.close()
    memory.unlink()


def _buffer(memory: SharedMemory) -> memoryview:
    assert memory.buf is not None, "closed already"
    return memory.buf


@dataclass(frozen=True)
class Packed:
    """The content of a Flower message without the bytes of its arrays.

    Args:
        arrays: record -> (array, dtype, shape, stype, start, length) of each array.
        metrics: record -> values.
        configs: record -> values.
        num_bytes: of all arrays.
    """

    arrays: Mapping[str, tuple[tuple[str, str, tuple[int, ...], str, int, int], ...]]
    metrics: Mapping[str, dict[str, Any]]
    configs: Mapping[str, dict[str, Any]]
    num_bytes: int


def pack(content: RecordDict) -> tuple[Packed, list[Buffer]]:
    """Return the content's form, and the bytes of its arrays in order."""
    arrays: dict[str, tuple[tuple[str, str, tuple[int, ...], str, int, int], ...]] = {}
    parts: list[Buffer] = []
    end = 0
    for name, record in content.array_records.items():
        entries = []
        for key, array in record.items():
            own = buffers(array)
            size = sum(len(part) for part in own)
            entries.append((key, array.dtype, tuple(array.shape), array.stype, end, size))
            parts += own
            end += size
        arrays[name] = tuple(entries)
    return repacked(Packed(arrays, {}, {}, end), content), parts


def repacked(packed: Packed, content: RecordDict) -> Packed:
    """Return the form of a content whose arrays are those of a packed one."""
    return replace(
        packed,
        metrics={name: dict(record) for name, record in content.metric_records.items()},
        configs={name: dict(record) for name, record in content.config_records.items()},
    )


def fill(memory: memoryview, parts: Sequence[Buffer]) -> None:
    """Write bytes one after the other."""
    start = 0
    for part in parts:
        memory[start : start + len(part)] = part
        start += len(part)


def unpack(packed: Packed, memory: memoryview) -> RecordDict:
    """Return the content again; its arrays are copies."""
    content = RecordDict()
    for name, entries in packed.arrays.items():
        record = ArrayRecord()
        for key, dtype, shape, stype, start, length in entries:
            record[key] = from_buffer(dtype, shape, stype, memory[start : start + length])
        content[name] = record
    return with_values(content, packed)


def with_values(content: RecordDict, packed: Packed) -> RecordDict:
    """Return the arrays of a content, as they are, beside the values of a packed one."""
    found = RecordDict(dict(content.array_records))
    for name, values in packed.metrics.items():
        found[name] = MetricRecord(values)
    for name, values in packed.configs.items():
        found[name] = ConfigRecord(values)
    return found
