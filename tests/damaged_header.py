"""Safetensors files as no library would write them, made from one that is whole: seeded."""

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

Entries = dict[str, Any]
STRANGE: list[Any] = [None, True, -1, 0, 1, 1.0, 1 << 31, 1 << 62, 1 << 64, "0", [], {}, [0], "I16"]


def whole() -> bytes:
    """Return a file of three tensors, one of them empty."""
    entries = {
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "I16", "shape": [4], "data_offsets": [24, 32]},
        "c": {"dtype": "BF16", "shape": [0, 5], "data_offsets": [32, 32]},
        "d": {"dtype": "F16", "shape": [], "data_offsets": [32, 34]},
    }
    return assembled(json.dumps(entries).encode(), bytes(range(34)))


def assembled(header: bytes, data: bytes) -> bytes:
    """Put a header and its length before the data."""
    return struct.pack("<Q", len(header)) + header + data


def taken_apart(content: bytes) -> tuple[bytes, bytes]:
    """Return the header and the data."""
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def damaged(random: Random) -> bytes:
    """Return a whole file with one to three damages; some leave it readable."""
    content = whole()
    for _ in range(random.randint(1, 3)):
        content = random.choice(DAMAGES)(content, random)
    return content


def _with_entries(change: Callable[[Entries, Random], None]) -> Callable[[bytes, Random], bytes]:
    def damage(content: bytes, random: Random) -> bytes:
        header, data = taken_apart(content)
        try:
            entries = json.loads(header)
            change(entries, random)
            return assembled(json.dumps(entries).encode(), data)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return content  # damaged too much by what came before

    return damage


def _offsets(entries: Entries, random: Random) -> None:
    entry = entries[random.choice(list(entries))]
    entry["data_offsets"][random.randrange(2)] += random.choice([-24, -8, -2, -1, 1, 2, 8, 1 << 40])


def _moved(entries: Entries, random: Random) -> None:
    entry, by = entries[random.choice(list(entries))], random.choice([-24, -8, -1, 1, 8, 24])
    entry["data_offsets"] = [each + by for each in entry["data_offsets"]]


def _swapped(entries: Entries, random: Random) -> None:
    one, other = random.sample(list(entries), 2)
    entries[one], entries[other] = entries[other], entries[one]


def _shape(entries: Entries, random: Random) -> None:
    entry = entries[random.choice(list(entries))]
    entry["shape"] = random.choice([[6], [3, 2], [1 << 62, 4, 0], [0, 1 << 62, 4], [-2, -3], [2.0]])


def _field(entries: Entries, random: Random) -> None:
    entry = entries[random.choice(list(entries))]
    entry[random.choice(list(entry))] = random.choice(STRANGE)


def _dtype(entries: Entries, random: Random) -> None:
    entry = entries[random.choice(list(entries))]
    entry["dtype"] = random.choice(["F32", "I16", "U16", "F8_E8M0", "F4", "C64", "f32", "BOOL"])


def _added(entries: Entries, random: Random) -> None:
    name = random.choice(["__metadata__", "e", "", "a.b", "\x00", "\ud800"])
    twin = entries[random.choice(list(entries))]
    entries[name] = random.choice([*STRANGE, {"format": "pt"}, {"x": 1}, twin])


def _removed(entries: Entries, random: Random) -> None:
    entry = random.choice([entries, entries[random.choice(list(entries))]])
    del entry[random.choice(list(entry))]


def _repeated(content: bytes, random: Random) -> bytes:
    header, data = taken_apart(content)
    name = random.choice([b'"a": ', b'"b": ', b'"dtype": ', b'"shape": '])
    start, found, rest = header.partition(name)
    end = rest.find(b"}" if len(name) < 6 else b",") + 1
    again = found + rest[:end] + (b"," if len(name) < 6 else b"")
    return assembled(start + again + found + rest, data)


def _flipped(content: bytes, random: Random) -> bytes:
    place = random.randrange(min(len(content), 300))
    return content[:place] + bytes([random.randrange(256)]) + content[place + 1 :]


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content))]


def _longer(content: bytes, random: Random) -> bytes:
    return content + bytes(random.choice([1, 2, 8, 4096]))


def _length(content: bytes, random: Random) -> bytes:
    length = random.choice([0, 1, 7, len(content), 10**8, 10**8 + 1, 2**63, 2**64 - 1])
    return struct.pack("<Q", length) + content[8:]


def _another(content: bytes, random: Random) -> bytes:
    _, data = taken_apart(content)
    header = random.choice(
        [b"[]", b"null", b"3", b'"a"', b"{", b"{}", b"", b"[" * 9999, b'{"a":' * 9999, b" {}"]
    )
    return assembled(header, data)


DAMAGES: list[Callable[[bytes, Random], bytes]] = [
    *map(_with_entries, (_offsets, _moved, _swapped, _shape, _field, _dtype, _added, _removed)),
    _repeated,
    _flipped,
    _cut,
    _longer,
    _length,
    _another,
]
