import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from tiny_models import CHAT_TEMPLATE

from hubq.sources.auxiliary_files import prompting


@pytest.fixture
def base(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "model"))


def template_in(folder: Path, text: str | None) -> None:
    """Give the folder another chat template, or none."""
    (folder / "chat_template.jinja").unlink()
    if text is not None:
        (folder / "chat_template.jinja").write_text(text)


def test_the_example_is_what_the_template_makes_of_a_question(folder: Path, base: Path) -> None:
    found = prompting(folder, base)

    assert found.example == "user: What is a llama?\nassistant: "
    assert found.template == sha256(CHAT_TEMPLATE.encode()).hexdigest()


def test_files_of_the_tokenizer_are_told_apart_by_their_bytes(folder: Path, base: Path) -> None:
    template_in(folder, "{{ messages[0].content }}")

    found = prompting(folder, base)

    assert found.changed == ("chat_template.jinja",)
    assert "tokenizer.json" in found.same


def test_a_model_without_a_template_has_no_example(folder: Path, base: Path) -> None:
    template_in(folder, None)

    found = prompting(folder, base)

    assert (found.template, found.example) == (None, None)


def test_a_template_that_wants_more_than_a_question_has_no_example(
    folder: Path, base: Path
) -> None:
    template_in(folder, "{{ raise_exception('a system message comes first') }}")

    found = prompting(folder, base)

    assert found.template is not None
    assert found.example is None


def test_a_template_that_tells_the_date_gives_the_same_example_on_every_day(
    folder: Path, base: Path
) -> None:
    template_in(folder, "{{ date_string | default(strftime_now('%d %b %Y')) }}")

    found = prompting(folder, base)

    assert found.example == "26 Jul 2024"


def test_settings_for_sampling_are_those_of_the_file(folder: Path, base: Path) -> None:
    settings = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 257}
    (folder / "generation_config.json").write_text(json.dumps(settings))

    found = prompting(folder, base)

    assert found.sampling == {"do_sample": True, "temperature": 0.6, "top_p": 0.9}


def test_a_folder_without_a_tokenizer_has_nothing_to_tell(folder: Path, base: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()

    found = prompting(folder, base)

    assert (found.template, found.example) == (None, None)
