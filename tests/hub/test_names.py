"""Names that could do harm are refused before anything sees them."""

import pytest

from hubq.hub.names import check_account_name, check_branch_name, check_path, check_repo_name
from hubq.hub.refusals import Refusal


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../x", "a/../x", "a/./x", "a//b", "a/", "a\\b", "a\nb", "a\0b"),
        *(".git/config", "a/.GIT/b", ".git /x", "git~1/x", "x" * 1025),
    ],
)
def test_a_path_that_git_or_a_file_system_could_misread_is_refused(path: str) -> None:
    with pytest.raises(Refusal):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.c", ".gitattributes", ".github/x", "größe/π", "a b"])
def test_an_ordinary_path_is_accepted(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize("name", ["", "a--b", "a..b", "x.git", "a-", "-a", "a/b", "ä", "a" * 97])
def test_a_repo_name_that_the_hub_refuses_is_refused(name: str) -> None:
    with pytest.raises(Refusal):
        check_repo_name(name)


@pytest.mark.parametrize("name", ["SmolLM2-135M-GPTQ-4bit", "a", "a.b_c-d", "_x", "a" * 96])
def test_a_repo_name_that_the_hub_takes_is_taken(name: str) -> None:
    assert check_repo_name(name) == name


@pytest.mark.parametrize("name", ["api", "Models", "xet", "datasets"])
def test_an_account_cannot_hide_a_route(name: str) -> None:
    with pytest.raises(Refusal):
        check_account_name(name)


@pytest.mark.parametrize(
    "name", ["", "a..b", "-a", "/a", "a/", "a//b", "a b", "a.lock", ".a", "@", "a@{1}", "a" * 40]
)
def test_a_branch_that_git_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(Refusal):
        check_branch_name(name)
