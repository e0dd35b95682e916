"""How a file shall be uploaded: into git or as a large file, or not at all."""

from collections.abc import Mapping
from io import BytesIO

from dulwich.attrs import GitAttributes, Pattern, parse_git_attributes
from dulwich.ignore import IgnoreFilter, read_ignore_patterns
from dulwich.repo import Repo

from hubq.embedded_hub.history import Entry, read_blob

MAX_REGULAR = 10 * 1024 * 1024


class UploadModes:
    """The rules of one commit: its .gitattributes and .gitignore."""

    def __init__(self, git: Repo, entries: Mapping[str, Entry], ignore: str | None) -> None:
        attributes = _content(git, entries, ".gitattributes")
        parsed = parse_git_attributes(BytesIO(attributes))
        self._attributes = GitAttributes([(Pattern(raw), values) for raw, values in parsed])
        rules = _content(git, entries, ".gitignore") if ignore is None else ignore.encode()
        self._ignore = IgnoreFilter(read_ignore_patterns(BytesIO(rules)))

    def large(self, path: str, size: int, sample: bytes) -> bool:
        """Tell whether a file goes to the large store: by pattern, by size, or as it is binary."""
        by_pattern = self._attributes.match_path(path.encode()).get(b"filter") == b"lfs"
        return by_pattern or size > MAX_REGULAR or _is_binary(sample)

    def ignored(self, path: str) -> bool:
        """Tell whether .gitignore leaves the file, or a folder above it, out."""
        parts = path.split("/")
        folders = ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]
        return any(self._ignore.is_ignored(name.encode()) for name in [*folders, path])


def _content(git: Repo, entries: Mapping[str, Entry], path: str) -> bytes:
    return read_blob(git, entries[path].blob) if path in entries else b""


def _is_binary(sample: bytes) -> bool:
    """Tell text from binary by the first bytes; a character cut in half at the end is no sign."""
    try:
        text = sample.decode()
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 3:
            return True
        text = sample[: error.start].decode()
    return "\0" in text
