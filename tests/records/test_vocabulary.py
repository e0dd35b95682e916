"""What may be a name on the command line, told before a Hub is asked."""

import re
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from hostile_hub import HostileHub, hostile_hub

from hubq.cli import cli
from hubq.errors import UserError
from hubq.records.vocabulary import Address, address, is_path, require_account

WRONG = (
    "my--model/x",
    "acme/my model",
    "acme/modèle",
    "acme/x.git",
    "acme/x-",
    "acme/.x",
    "acme/" + "x" * 97,
    "acme/../x",
    "https://hub.example/acme/x",
    "acme/x@",
    "acme/x@../../y",
    "acme/x@a b",
    "acme/x@-f",
    "",
)


@pytest.fixture
def hub() -> Iterator[HostileHub]:
    with hostile_hub() as running:
        yield running


@pytest.mark.parametrize("name", WRONG)
def test_what_can_be_no_repo_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"not a repo name|no revision"):
        address(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpt2", Address("gpt2", None)),
        ("acme/Tiny_1.5B-AWQ", Address("acme/Tiny_1.5B-AWQ", None)),
        ("acme/x@main", Address("acme/x", "main")),
        ("acme/x@refs/convert/parquet", Address("acme/x", "refs/convert/parquet")),
        ("acme/x@v1.0-a+b", Address("acme/x", "v1.0-a+b")),
    ],
)
def test_what_can_be_a_repo_is_read(name: str, meant: Address) -> None:
    assert address(name) == meant


@pytest.mark.parametrize(
    "command",
    [
        ("pull", "acme/my--model"),
        ("chat", "acme/my--model", "hello"),
        ("compare", "acme/my--model"),
        ("convert", "acme/my--model", "--to", "hubq"),
        ("evaluate", "--model", "acme/my--model", "--against", "acme/base", "hubq_piqa"),
        ("space", "run", "acme/my--model"),
        ("space", "run", "--org", "my--org"),
        ("space", "deploy", "--org", "my--org"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_command_refuses_a_wrong_name_before_it_asks(
    command: tuple[str, ...], hub: HostileHub
) -> None:
    result = CliRunner().invoke(cli, [*command, "--hub", hub.endpoint])

    assert result.exit_code == 1, result.output
    assert re.search("is not an? (repo|organization) name", result.output)
    assert hub.asked == []


def test_an_organization_has_a_name() -> None:
    assert require_account("acme-corp") == "acme-corp"
    with pytest.raises(UserError, match="not an organization name"):
        require_account("acme/corp")


@pytest.mark.parametrize("path", ["a", "a/b.txt", "a b/ü.md", ".gitattributes", "x.git/y", "...x"])
def test_an_ordinary_path_is_one(path: str) -> None:
    assert is_path(path)
