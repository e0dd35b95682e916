"""The head of a card that others wrote: read, or refused, and never lost."""

import codecs
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import yaml
from huggingface_hub import RepoCard

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.base_card import card_in, front_matter, known_card
from hubq.sources.find import find

PLAIN = "---\nlicense: llama3.1\nextra_gated_prompt: Agree.\n---\n# A model\n"
SAID = {"license": "llama3.1", "extra_gated_prompt": "Agree."}


@pytest.mark.parametrize(
    "written",
    [
        PLAIN.encode(),
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("---", "--- \t").encode(),
        ("\n \n" + PLAIN).encode(),
        PLAIN.replace("llama3.1", "&l llama3.1").encode(),
        PLAIN.replace("# A", "\xff A").encode("latin-1"),
    ],
    ids=["plain", "BOM", "UTF-16", "CRLF", "CR", "blanks", "above", "anchor", "Latin-1"],
)
def test_what_a_card_says_is_read_however_it_is_written(written: bytes) -> None:
    values, text = front_matter(written, "x")

    assert values == SAID
    assert text.rstrip().endswith("A model")


def test_an_alias_repeats_what_its_anchor_names() -> None:
    card = b"---\na: &l llama3.1\nlicense: *l\n---\n"

    assert front_matter(card, "x")[0]["license"] == "llama3.1"


@pytest.mark.parametrize("text", ["", "# A model\n", "-- -\nlicense: mit\n", "a\n---\nb: c\n---\n"])
def test_a_text_without_a_head_says_nothing(text: str) -> None:
    assert front_matter(text.encode(), "x") == ({}, text)


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ("---\n\tlicense: llama3.1\n---\n", "line 2: invalid YAML"),
        ("\n---\na: b\nlicense: ]\n---\n", "line 4: invalid YAML"),
        ("---\nlicense: llama3.1\n", "it has no closing --- line"),
        ("---\n- license\n---\n", "it is not a mapping"),
        ("---\nlicense: mit\nlicense: llama3.1\n---\n", "line 3: license: already set"),
        (
            "---\na: &a [x,x,x,x,x,x,x,x]\nb: " + "[" * 40 + "]" * 40 + "\n---\n",
            "nested too deeply",
        ),
        ("---\na: &a {b: *a}\n---\n", "nested too deeply"),
        (
            "---\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"a{n + 1}: &a{n + 1} [{','.join([f'*a{n}'] * 10)}]\n" for n in range(9))
            + "---\n",
            "more than 100,000 values",
        ),
    ],
)
def test_a_head_that_cannot_be_read_is_refused_with_its_line(card: str, why: str) -> None:
    with pytest.raises(UserError, match="can't be read") as caught:
        front_matter(card.encode(), "x")

    assert why in str(caught.value)
    assert "set model.license" in str(caught.value)


def test_a_license_that_is_given_stands_for_an_unreadable_card() -> None:
    card = known_card(lambda: front_matter(b"---\n\tlicense: x\n---\n", "x")[0], "llama3.1")

    assert card.gate is None


def test_the_gate_of_an_unreadable_card_with_a_form_is_supposed_to_be_there() -> None:
    written = b"---\n\tx: y\nextra_gated_prompt: Agree.\n---\n"

    assert known_card(lambda: front_matter(written, "x")[0], "llama3.1").gate == "unknown"


@pytest.mark.filterwarnings("ignore:Warnings while validating metadata")
def test_a_card_that_the_hub_could_not_read_is_read_here(
    client: Client, tiny_model: Callable[[str], Path]
) -> None:  # a second: a hub starts
    api = client.api()
    api.create_repo("acme/base")
    api.upload_folder(repo_id="acme/base", folder_path=tiny_model("llama"))
    api.upload_file(
        path_or_fileobj=PLAIN.replace("\n", "\r").encode(),
        path_in_repo="README.md",
        repo_id="acme/base",
    )

    found = find(ModelSection(hub="acme/base"), client)

    assert found.license == "llama3.1"


@pytest.mark.parametrize("seed", range(8))
def test_a_mangled_card_is_read_as_huggingface_hub_reads_it_or_refused(
    tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    for _ in range(40):
        letters = list(PLAIN)
        for _ in range(random.randint(1, 4)):
            letters[random.randrange(len(letters))] = random.choice("\t \n-:&*!{}[]'\"#|>%@`\x00é")
        (tmp_path / "README.md").write_text("".join(letters))

        theirs: dict[str, object] = {}
        with suppress(yaml.YAMLError, ValueError, TypeError):  # those that it refuses
            theirs = RepoCard("".join(letters), ignore_metadata_errors=True).data.to_dict()
        with suppress(UserError):
            values, _ = card_in(tmp_path)
            assert {**values, **theirs} == values
