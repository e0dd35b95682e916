"""An adapter's repo or folder as a model: its base, which its config names, with it inside."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from hubq.client.client import Client
from hubq.client.pull import pull
from hubq.errors import UserError
from hubq.machine.files import cache_folder, read_object
from hubq.machine.progress import Progress
from hubq.records.run_folder import ADAPTER, ADAPTER_CONFIG
from hubq.records.vocabulary import is_repo, is_revision
from hubq.sources.folder import IS_ADAPTER


def with_base(adapter: Path, client: Client, progress: Progress) -> Path:
    """Bring an adapter's base from the Hub; return a folder of links that is both as one model.

    Raises UserError for an adapter that names no repo.
    """
    base = pull(_named(adapter), None, client, progress)
    key = sha256(f"{adapter.resolve()}\n{base.resolve()}".encode()).hexdigest()
    return linked(base, adapter, cache_folder("adapted", key))


def linked(base: Path, adapter: Path, folder: Path) -> Path:
    """Fill a folder with links to the files of a base and, inside, of an adapter; return it."""
    for path, place in [*_files(base, folder), *_files(adapter, folder / ADAPTER)]:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(path)
    return folder


def _named(adapter: Path) -> str:
    """Return the base that an adapter's config names: org/name, with its revision if one is."""
    config = read_object(adapter / ADAPTER_CONFIG)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not is_repo(base):
        raise UserError(f"{adapter} {IS_ADAPTER}. Its config names no repo of a base")
    if not revision:
        return base
    if not isinstance(revision, str) or not is_revision(revision):
        raise UserError(f"{adapter} {IS_ADAPTER}. Its config names no revision of {base}")
    return f"{base}@{revision}"


def _files(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a folder's files, each with its place in another."""
    for path in sorted(source.absolute().rglob("*")):
        if path.is_file():
            yield path, target / path.relative_to(source.absolute())
