"""A model's folder made anew, as transformers reads it: from pickles, or under the usual names.

Each is made once, lies in hubq's cache by its content, and appears in one step.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hubq.errors import UserError
from hubq.machine.files import cache_folder, require_space, sha256_of, write_atomically
from hubq.machine.progress import SILENT, Progress
from hubq.sources.auxiliary_files import CHAT_TEMPLATES, is_auxiliary, json_bytes
from hubq.sources.shards import INDEX, Piece, index, merge
from hubq.sources.tensor_headers import read_header
from hubq.sources.weight_files import SINGLE

CONFIG = "config.json"
READER = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
    "from hubq.sources.pickled_weights import main; main(Path(sys.argv[2]), Path(sys.argv[3]))"
)
SECONDS = 600  # beside what a slow disk takes
SLOWEST = 10_000_000  # bytes a second


def unpickled(folder: Path, files: tuple[str, ...], progress: Progress = SILENT) -> Path:
    """Return the safetensors that pickled files hold, converted once; raise UserError for others.

    No code of the pickles is run (hubq/sources/pickled_weights.py).
    """
    target = cache_folder("models") / f"unpickled-{_digest(folder, files)}"
    with _made(target, folder, sum((folder / name).stat().st_size for name in files)) as made:
        if made is None:
            return target
        found: dict[str, str] = {}
        with progress.task(f"Converting the pickles of {folder.name}", len(files)) as advance:
            for number, name in enumerate(files, start=1):
                new = SINGLE
                if len(files) > 1:
                    new = f"model-{number:05d}-of-{len(files):05d}.safetensors"
                _convert(folder / name, made / new)
                _note(found, made / new, folder / name)
                advance(1)
        if len(files) > 1:
            index_file = {"metadata": {}, "weight_map": found}
            write_atomically(made / INDEX, json.dumps(index_file).encode())
        write_atomically(made / CONFIG, (folder / CONFIG).read_bytes())
    return target


def renamed(
    folder: Path,
    stored: Mapping[str, str],
    config: Mapping[str, Any],
    without: tuple[str, ...] = (),
) -> Path:
    """Return a copy of a folder with other names of tensors, name -> the name in its file.

    Tensors that have no new name are left out, and so is all that transformers would read beside,
    and the files that it is to be without.
    """
    info = index(folder)
    key = hashlib.sha256(json.dumps([dict(stored), dict(config)], sort_keys=True).encode())
    key.update(_digest(folder, sorted({each.file for each in info.values()})).encode())
    target = cache_folder("models") / f"renamed-{key.hexdigest()}"
    size = sum(info[old].end - info[old].begin for old in stored.values())
    with _made(target, folder, size, without) as made:
        if made is not None:
            pieces = [
                Piece(name, folder / info[old].file, info[old]) for name, old in stored.items()
            ]
            merge(pieces, made)
            write_atomically(made / CONFIG, json_bytes(config))
    return target


@contextmanager
def _made(
    target: Path, source: Path, size: int, without: tuple[str, ...] = ()
) -> Iterator[Path | None]:
    """Give a folder to fill, which becomes the target; None where that is there already."""
    if target.is_dir():
        yield None
        return
    require_space(target.parent, size, f"the weights of {source} in another form")
    with tempfile.TemporaryDirectory(
        dir=target.parent, prefix="converting-", ignore_cleanup_errors=True
    ) as unfinished:
        for path in (each for each in _beside(source) if each.name not in without):
            copy = Path(unfinished) / path.relative_to(source)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
        yield Path(unfinished)
        if not target.is_dir():  # another process may have been faster
            shutil.copymode(target.parent, unfinished)
            os.rename(unfinished, target)


def _beside(folder: Path) -> list[Path]:
    """List the files beside the weights, but config.json."""
    found = [*folder.glob("*"), *folder.glob(CHAT_TEMPLATES)]
    names = {path: path.relative_to(folder).as_posix() for path in found if path.is_file()}
    return sorted(
        path
        for path, name in names.items()
        if name == "README.md" or (name != CONFIG and is_auxiliary(name))
    )


def _digest(folder: Path, files: tuple[str, ...] | list[str]) -> str:
    """Name a model's content: its weights and all that is copied with them."""
    digest = hashlib.sha256()
    for path in (folder / CONFIG, *(folder / name for name in files), *_beside(folder)):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _convert(source: Path, target: Path) -> None:
    """Let a process of its own read a pickle, without the user's environment."""
    here = str(Path(__file__).parents[2])
    limit = SECONDS + source.stat().st_size / SLOWEST
    command = [sys.executable, "-I", "-c", READER, here, str(source), str(target)]
    try:
        done = subprocess.run(
            command,
            env={"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{source} could not be read within {limit:.0f} s: its pickle is damaged or made to "
            "stall readers; name a copy of the model in safetensors"
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["killed"]
        raise UserError(
            f"{source} is not a pickle of weights alone, or is damaged: {said[-1][:300]}.\n"
            "It was read as numbers only and none of its code was run. Name a copy of the model "
            "in safetensors, or save it again with save_pretrained where you trust it"
        )


def _note(found: dict[str, str], path: Path, source: Path) -> None:
    """Note which file holds each tensor; refuse one that two files hold."""
    for name in read_header(path):
        if name in found:
            raise UserError(
                f"{source} holds {name}, which another file of the model holds too, so hubq can't "
                "tell which one is the model's; remove the file that is not the model's"
            )
        found[name] = path.name
