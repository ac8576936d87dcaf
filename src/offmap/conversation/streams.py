"""Byte streams: plain or compressed by the ending of a file's name.

Knows nothing of rows or conversations.
"""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_ZSTD_BLOCK = 1 << 14


@contextmanager
def unpacked(path: str) -> Iterator[IO[bytes]]:
    """A stream of the decompressed bytes of ``path``; "-" is standard input.

    Raises:
        OSError, EOFError, zlib.error: while reading: the file is missing, cut short or damaged.
    """
    if path == "-":
        yield sys.stdin.buffer
        return
    with Path(path).open("rb") as stream:
        if path.endswith(".gz"):
            with gzip.GzipFile(fileobj=stream) as plain:
                yield plain  # type: ignore[misc]
        elif path.endswith(".zst"):
            yield io.BufferedReader(_Unzstd(stream))
        else:
            yield stream


@contextmanager
def packed(stream: IO[bytes], ending: str) -> Iterator[IO[bytes]]:
    """A stream to write plain bytes to, which reach ``stream`` compressed as ``ending`` says; equal bytes each time."""
    if ending.endswith(".gz"):
        with gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0) as sink:
            yield sink  # type: ignore[misc]
    elif ending.endswith(".zst"):
        import zstandard

        with zstandard.ZstdCompressor(write_checksum=True).stream_writer(stream, closefd=False) as sink:
            yield sink
    else:
        yield stream


class _Unzstd(io.RawIOBase):
    """Decompressed bytes of a zstandard stream. The library's own reader takes a stream cut short for a whole one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._chunks = _chunks(stream)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._rest:
            if (chunk := next(self._chunks, None)) is None:
                return 0
            self._rest = chunk
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    import zstandard

    frame = None
    while block := stream.read(_ZSTD_BLOCK):
        while block:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                yield frame.decompress(block)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from None
            block = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the compressed stream ends before its end-of-frame mark")
