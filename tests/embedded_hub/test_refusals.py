"""Names that could do harm are refused before anything sees them."""

import random
import re
import subprocess
from pathlib import Path

import pytest

from hubq.embedded_hub.refusals import (
    Refusal,
    check_account_name,
    check_branch_name,
    check_path,
    check_repo_name,
)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../x", "a/../x", "a/./x", "a//b", "a/", "a\\b", "a\nb", "a\0b"),
        *(".git/config", "a/.GIT/b", ".git /x", "git~1/x", "x" * 1025, "x" * 256, "a/" * 100 + "a"),
        *(".git::$INDEX_ALLOCATION/x", ".git:x", ".g\u200cit", "GIT~1. .", ".Git...", "\ufeff.git"),
        *(
            ".gitmodules",
            ".GITMODULES",
            "gitmod~1",
            "GI7EBA~1",
            "gi7eb~10",
            ".gitattributes ",
            "\ud800",
        ),
    ],
)
def test_a_path_that_git_or_a_file_system_could_misread_is_refused(path: str) -> None:
    with pytest.raises(Refusal):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        *("a", "a/b.c", ".gitattributes", "a/.gitignore", ".github/x", "größe/π", "a b", ".gitx"),
        *("git", "git~", "gitx~1", "a:b", "~", "model~1.bin", "a/" * 99 + "a"),
    ],
)
def test_an_ordinary_path_is_accepted(path: str) -> None:
    assert check_path(path) == path


def spellings(seed: int) -> set[str]:
    """Write .git and its short name in ways that some file system could take for it."""
    dice = random.Random(seed)
    ignored = ["", "", "", "\u200c", "\u200f", "\u202e", "\u206a", "\ufeff", "x"]
    ends = ["", ".", " ", " . ..", "::$INDEX_ALLOCATION", ":$I30:$INDEX_ALLOCATION", ":x", "x"]
    return {
        dice.choice(ignored).join(
            dice.choice((c, c.upper())) for c in dice.choice([".git", "git~1"])
        )
        + dice.choice(ends)
        for _ in range(500)
    }


def test_every_spelling_that_gits_own_check_finds_is_refused(tmp_path: Path) -> None:
    def git(*arguments: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            ["git", "-C", tmp_path, *arguments], input=given, capture_output=True, check=False
        )
        return done.stdout + done.stderr

    git("init", "--bare", "--quiet")
    blob = git("hash-object", "-w", "--stdin", given=b"x").strip().decode()
    names = sorted(spellings(seed=1))
    trees = b"\n".join(b"100644 blob %s\t%s\0" % (blob.encode(), name.encode()) for name in names)
    ids = git("mktree", "-z", "--batch", given=trees.replace(b"\0\n", b"\0\0") + b"\0")

    found = set(re.findall(rb"tree ([0-9a-f]{40}): hasDotgit", git("fsck", "--strict")))

    wrong = [name for name, tree in zip(names, ids.split(), strict=True) if tree in found]
    assert len(wrong) > 50
    for name in wrong:
        with pytest.raises(Refusal):
            check_path(name)


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
