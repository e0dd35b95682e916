"""The lines of a text file of a stranger: unpacked within bounds, decoded, or refused."""

import io
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from hubq.errors import UserError

MOST = 1 << 31  # bytes of a file when it is unpacked
LONGEST = 1 << 28  # bytes of a line
PACKED = {".gz": "gzip", ".zst": "zstd"}
BYTE_ORDER_MARK = "\ufeff"
WIDE = (b"\xff\xfe", b"\xfe\xff")  # how UTF-16 and UTF-32 begin


class _Bounded(io.RawIOBase):
    """A stream that ends in an error where it goes on for too long."""

    def __init__(self, source: Any, path: Path) -> None:  # noqa: ANN401 - a file of some kind
        self._source = source
        self._path = path
        self._left = MOST

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a buffer
        content = self._source.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise UserError(f"{self._path} holds more than {MOST:,} bytes; name a part of it")
        buffer[: len(content)] = content
        return len(content)


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, which may be packed, without a byte order mark.

    Only a newline ends one. Raises UserError for what can't be read, isn't UTF-8 or is too much.
    """
    for number, line in enumerate(_undecoded(path), start=1):
        if number == 1 and line.startswith(WIDE):
            raise UserError(f"{path} is UTF-16 or UTF-32; save it as UTF-8")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}, line {number}: not UTF-8 ({error.reason}); save it as UTF-8"
            ) from error
        yield text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text


def _undecoded(path: Path) -> Iterator[bytes]:
    packing = PACKED.get(path.suffix)
    arrow: Any = import_module("pyarrow") if packing else None  # which plain texts need not
    faults = (OSError, arrow.ArrowException) if packing else (OSError,)
    if not path.is_file():
        raise UserError(f"cannot read the data set {path}: there is no such file")
    try:
        with path.open("rb") as file:
            source = arrow.CompressedInputStream(file, packing) if packing else file
            stream = io.BufferedReader(_Bounded(source, path), 1 << 20)
            while line := stream.readline(LONGEST + 1):
                if len(line) > LONGEST:
                    raise UserError(f"{path} has a line of more than {LONGEST:,} bytes; split it")
                yield line
    except faults as error:
        raise UserError(f"cannot read the data set {path}: {error}; replace the file") from error
