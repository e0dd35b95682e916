"""The store of large files, each under its sha256, and the git LFS pointers that name them."""

import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})\n"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pointer:
    """A large file as git sees it: its sha256 and its size in bytes."""

    sha256: str
    size: int

    def encode(self) -> bytes:
        """Write the pointer as the git LFS specification has it."""
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
            self.sha256.encode(),
            self.size,
        )

    @classmethod
    def decode(cls, content: bytes) -> "Pointer | None":
        """Read a pointer; None when the content is just a file."""
        match = _POINTER.fullmatch(content) if len(content) < 200 else None
        return match and cls(match[1].decode(), int(match[2]))


class Incoming:
    """A file on its way to disk, hashed as it comes; gone again unless it is kept."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{secrets.token_hex(12)}.part"
        self.size = 0
        self._hash = hashlib.sha256()
        self._file = self.path.open("xb")

    def write(self, chunk: bytes) -> None:
        """Append a piece."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """The sha256 of what came so far, in hex."""
        return self._hash.hexdigest()

    def flush(self) -> None:
        """Let other readers of the path see all that was written."""
        self._file.flush()

    def keep(self, destination: Path) -> None:
        """Move the file to its place, whole and on disk before its name appears."""
        self.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        destination.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(destination)

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class Objects:
    """Large files on disk, found by their sha256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def receive(self) -> Incoming:
        """Open a place for a file that arrives."""
        return Incoming(self.folder / "incoming")

    def path(self, sha256: str) -> Path:
        """Say where the object of that sha256 lives."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"no sha256: {sha256!r}")
        return self.folder / sha256[:2] / sha256[2:4] / sha256

    def size(self, sha256: str) -> int | None:
        """Return the size of an object in bytes; None when it isn't here."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def part(self, upload: str, number: int) -> Path:
        """Say where a part of a multipart upload waits for the others."""
        return self.folder / "parts" / upload / str(number)
