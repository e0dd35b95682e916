"""Tokenizers of strangers: what loads, and what is said of the others."""

import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubq.errors import UserError
from hubq.sources.tokenizer import tokenizer_of
from hubq.stages.evaluate.inference.loading import load

PROGRAM = "from pathlib import Path\nPath({ran!r}).touch()\n"
JUNK: tuple[Any, ...] = (None, True, -1, 2**70, 1.5, "x", "", [], {}, [[]], {"a": 1}, "\ud800")


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))


@pytest.fixture
def ran(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder a program as its tokenizer, and a user who says yes to all."""
    ran = folder.parent / "ran"
    (folder / "own.py").write_text(PROGRAM.format(ran=str(ran)))
    change(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["own.Own", None]},
        tokenizer_class="Own",
    )
    monkeypatch.setattr("builtins.input", lambda prompt="": "y")
    return ran


def test_the_code_of_a_tokenizer_is_neither_run_nor_asked_about(
    ran: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        UserError, match=r"does not run code from models; its tokenizer\.json is enough"
    ):
        tokenizer_of(folder)

    assert not ran.exists()
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("ran")
def test_what_is_advised_for_such_a_tokenizer_works(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_bytes())
    del config["auto_map"]
    path.write_text(json.dumps(config))

    found = tokenizer_of(folder)

    assert found.decode(found("a llama")["input_ids"]) == "a llama"


def test_a_model_with_code_of_its_own_is_refused_without_running_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = folder.parent / "ran"
    (folder / "own.py").write_text(PROGRAM.format(ran=str(ran)))
    change(
        folder / "config.json",
        model_type="own",
        auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    )
    monkeypatch.setattr("builtins.input", lambda prompt="": "y")

    with pytest.raises(UserError, match="hubq does not run code from models"):
        load(folder, device="cpu", dtype="bfloat16")

    assert not ran.exists()


def test_a_sentencepiece_model_alone_names_the_libraries_that_it_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\2")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)  # where it is installed

    with pytest.raises(UserError, match="pip install sentencepiece protobuf"):
        tokenizer_of(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b'"x"', b"\xff\xfe", b"[" * 10_000]
)
def test_a_file_of_another_form_is_a_user_error(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)

    with pytest.raises(UserError, match="has no tokenizer that transformers can read"):
        tokenizer_of(folder)


@pytest.mark.parametrize(
    "odd",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},  # panics
        {"model": {"type": "WordPiece", "unk_token": "gone", "vocab": {"a": 0}}, "decoder": None},
    ],
)
def test_a_tokenizer_that_breaks_when_it_is_used_is_a_user_error(
    odd: dict[str, object], folder: Path
) -> None:
    change(folder / "tokenizer.json", **odd)

    with pytest.raises(UserError, match="has no tokenizer that transformers can read"):
        tokenizer_of(folder)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value within a JSON value, some of long lists and objects."""
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys[:12]:
            yield (*above, key)
            yield from places(value[key], (*above, key))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_one_odd_value_anywhere_is_no_traceback(name: str, folder: Path) -> None:
    original = (folder / name).read_bytes()
    draw = random.Random(name)

    for _ in range(25):
        whole = json.loads(original)
        *above, last = draw.choice(list(places(whole)))
        value = whole
        for key in above:
            value = value[key]
        value[last] = draw.choice(JUNK)
        (folder / name).write_text(json.dumps(whole))
        try:
            tokenizer_of(folder)
        except UserError:
            continue
