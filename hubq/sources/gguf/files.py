"""A GGUF model is one file, or several that llama.cpp split: all are found, or one is missed."""

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.sources.gguf.header import MAGIC, GgufHeader, GgufTensor, read_header

PART = re.compile(r"(?P<name>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
QUICKLY_COPIED = 1 << 32  # bytes


class Gguf(NamedTuple):
    """A whole model: what its first file says of it, and the tensors of all."""

    headers: Sequence[GgufHeader]

    @property
    def path(self) -> Path:
        """The first file, which names the model."""
        return self.headers[0].path

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the first file says; the others only say which part they are."""
        return self.headers[0].metadata

    @property
    def tensors(self) -> dict[str, GgufTensor]:
        """The tensors of all files by name."""
        return {name: each for header in self.headers for name, each in header.tensors.items()}

    @property
    def bytes(self) -> int:
        """What all files take."""
        return sum(header.path.stat().st_size for header in self.headers)


def open_gguf(path: Path) -> Gguf:
    """Read the heads of all files of a model, of which `path` may be any.

    Raises UserError for a damaged file, for a part that is missing and for one of another model.
    """
    named = PART.fullmatch(path.name)
    first = path if named is None else path.with_name(_part(named["name"], 1, named["count"]))
    if not first.is_file():
        raise UserError(
            f"{path} is one part of a model, and {first} is missing: download all parts"
        )
    header = read_header(first)
    count = header.metadata.get(COUNT, 0)
    if count in (0, 1):
        return Gguf([header])
    headers = [header, *(read_header(each) for each in _others(first, count))]
    _require_one_model(headers)
    return Gguf(headers)


def _part(name: str, number: int, count: int | str) -> str:
    return f"{name}-{number:05d}-of-{int(count):05d}.gguf"


def _others(first: Path, count: object) -> list[Path]:
    """Return the parts after the first; raise UserError unless all are there."""
    named = PART.fullmatch(first.name)
    if not isinstance(count, int) or named is None or int(named["count"]) != count:
        raise UserError(
            f"the header of {first} says that it is one of {count} parts of a model, but its "
            "name doesn't lead to the others: name them NAME-00001-of-00005.gguf and so on, "
            "each with its own number"
        )
    others = [first.with_name(_part(named["name"], each, count)) for each in range(2, count + 1)]
    missing = [path for path in others if not path.is_file()]
    if missing:
        raise UserError(
            f"{missing[0]} is missing: {len(missing)} of the {count} parts of this model are "
            f"missing. Put them into the folder of {first.name}"
        )
    return others


def _require_one_model(headers: Sequence[GgufHeader]) -> None:
    """Refuse parts that are not those of one model, each in its place."""
    promised = headers[0].metadata.get(TENSORS)
    for number, header in enumerate(headers):
        said = tuple(header.metadata.get(key) for key in (NUMBER, COUNT, TENSORS))
        if said != (number, len(headers), promised):
            raise UserError(
                f"the header of {header.path} says that it is part {said[0]} (counted from 0) "
                f"of {said[1]} with {said[2]} tensors in all, not part {number} of "
                f"{len(headers)} with {promised}: it belongs to another model, or has the wrong "
                "name. Download it again"
            )
    names = [name for header in headers for name in header.tensors]
    if len(set(names)) != len(names) or len(names) != promised:
        raise UserError(
            f"the {len(headers)} parts of {headers[0].path} hold {len(set(names))} "
            f"tensors, but their headers promise {promised}: they don't belong to one "
            "model. Download them again"
        )


def digest(path: Path) -> str:
    """Return the sha256 of a model's file; of several, that of their digests."""
    files = [header.path for header in open_gguf(path).headers]
    if len(files) == 1:
        return sha256_of(files[0])
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()


def place_alone(gguf: Gguf, folder: Path) -> Path:
    """Return the model's first file, which has all of its metadata, where nothing else lies.

    Readers look for a tokenizer's files beside a model, and would take another model's.
    """
    path = folder / "first.gguf"
    path.symlink_to(gguf.path.resolve())
    return path


def is_copied(gguf: Gguf) -> bool:
    """Tell whether `place_weights` writes a file of the model's size."""
    return len(gguf.headers) > 1 or gguf.bytes <= QUICKLY_COPIED


def place_weights(gguf: Gguf, folder: Path) -> Path:
    """Return a file with the weights of all parts, where nothing else lies.

    It has no vocabulary unless the file is large: transformers takes longer to read one, of which
    it needs nothing here, than a file takes to be copied.
    """
    path = folder / "model.gguf"
    if is_copied(gguf):
        _join(gguf, path)
    else:
        path.symlink_to(gguf.path.resolve())
    return path


def _join(gguf: Gguf, path: Path) -> None:
    """Write the metadata of the first part, without lists, and the tensors of all into one file."""
    first, alignment = gguf.headers[0], gguf.headers[0].alignment
    infos, place = [], 0
    for name, tensor in gguf.tensors.items():
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape[::-1])
        infos += [_text(name), shape, struct.pack("<IQ", tensor.kind, place)]
        place += _padded(tensor.end - tensor.begin, alignment)
    with path.open("wb") as target, first.path.open("rb") as source:
        version = source.read(8)[4:]
        counts = struct.pack("<QQ", len(gguf.tensors), len(first.plain))
        head = MAGIC + version + counts + b"".join((*first.plain, *infos))
        target.write(head.ljust(_padded(len(head), alignment), b"\0"))
        for tensor in gguf.tensors.values():
            _copy(tensor, target, alignment)


def _copy(tensor: GgufTensor, target: Any, alignment: int) -> None:  # noqa: ANN401 - a file
    with tensor.path.open("rb") as source:
        source.seek(tensor.begin)
        size = tensor.end - tensor.begin
        for begin in range(0, size, 1 << 24):
            target.write(source.read(min(1 << 24, size - begin)))
    target.write(bytes(_padded(size, alignment) - size))


def _padded(size: int, alignment: int) -> int:
    return size + -size % alignment


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()
