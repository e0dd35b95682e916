"""The Hub's vocabulary: ids of licenses, codes of languages, names of repos and files.

The rules for names are the Hub's own (its client's `validate_repo_id`, git's check-ref-format),
told before anything is asked; those of paths are what git's `fsck` and file systems that fold case
demand. Records, the client and the embedded Hub share this file.
"""

import re
from typing import Literal, NamedTuple

from hubq.errors import UserError

# ISO 639-1. Of ISO 639-2 and 639-3, with their 8,000 codes, only the shape is checked.
_TWO_LETTERS = """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da
    de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz
    ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln
    lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi
    pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th
    ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_SPECIAL = frozenset({"code", "multilingual"})
_CODES = _SPECIAL | set(_TWO_LETTERS.split())
# The ids that the Hub takes, as its complaint about any other lists them; a license that is not
# among them is `other` there, with a name.
_IDS = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m
    bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause
    bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license
    ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
    fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research
    intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3
    llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openmdw-1.1 openrail
    openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
HUB_LICENSES = tuple(_IDS.split())
PUBLIC_HUB = "https://huggingface.co"
LICENSE_FILES = ("LICENSE", "LICENSE.md")  # the files of a repo that the Hub takes for a link
Kind = Literal["model", "dataset", "space"]  # of a repo
LONGEST_NAME = 96  # characters
FORBIDDEN_ENDS = ("-", ".", ".git", ".ipynb")
# git-check-ref-format: what a ref may not hold, wherever it stands.
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|(^|/)\.|\.lock(/|$)|^-|^@$")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
# A submodule would be somebody else's files, fetched from where the repo says.
GITS_OWN = (".git", ".gitmodules", ".gitattributes", ".gitignore", ".mailmap")  # last 3: so spelled
_IGNORED_BY_HFS = re.compile(r"[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
# How the short names begin that NTFS gives to these: by their letters, or by a hash of the name.
_SHORT = ("git", "gitmod", "gitatt", "gitign", "mailma")
_SHORT_HASHES = ("gi7eba", "gi7d29", "gi250a", "maba30")
LONGEST_PATH, LONGEST_SEGMENT, LONGEST_REF = 1024, 255, 240  # bytes


def is_language(code: object) -> bool:
    """Tell whether a card may name a language so."""
    return isinstance(code, str) and (code in _CODES or bool(re.fullmatch("[a-z]{3}", code)))


class Address(NamedTuple):
    """A repo, and the revision of it that is meant; None: the head of main."""

    repo: str
    revision: str | None


def mistake_in_name(name: str) -> str | None:
    """Say why the Hub would refuse a name of a repo, a user or an organization; None: it takes it.

    The rules are those of huggingface_hub's validate_repo_id and of the Hub's own answers.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        return (
            "it may contain only a-z, A-Z, 0-9, '-', '_' and '.', and may not begin with '-' or '.'"
        )
    if len(name) > LONGEST_NAME:
        return f"it may have at most {LONGEST_NAME} characters, not {len(name)}"
    if "--" in name or ".." in name:
        return "it may not contain '--' or '..'"
    if name.endswith(FORBIDDEN_ENDS):
        return "it may not end with '-', '.', '.git' or '.ipynb'"
    return None


def mistake_in_id(name: str) -> str | None:
    """Say why something is no org/name of the Hub, or None; an address is told its id."""
    address = re.fullmatch(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^?#]*)", name)
    if address:
        return f"is an address; write {'/'.join(address[1].split('/')[:2])}"
    org, slash, repo = name.partition("/")
    if not slash or "/" in repo:
        return "must be org/name, as the Hub calls it"
    for part in (org, repo):
        if mistake := mistake_in_name(part):
            return f"{part!r} is not a valid name on the Hub: {mistake}"
    return None


def mistake_in_reference(written: str) -> str | None:
    """Say why something is neither org/name nor org/name@revision, or None."""
    name, at, revision = written.partition("@")
    mistake = mistake_in_id(name)
    if mistake is None and at and not re.fullmatch(r"\w[\w./-]*", revision, re.ASCII):
        return f"{revision!r} is not a revision"
    return mistake


def is_name(name: str) -> bool:
    """Tell whether the Hub takes this for an account or, without its account, for a repo."""
    return mistake_in_name(name) is None


def is_repo(name: str) -> bool:
    """Tell whether this can be the name of a repo: org/name, or a name alone as a few old ones."""
    return name.count("/") <= 1 and all(map(is_name, name.split("/")))


def is_revision(name: str) -> bool:
    """Tell whether this can be a branch, a tag or a commit; others could lead out of a folder."""
    return 0 < len(name.encode(errors="replace")) <= LONGEST_REF and _BAD_REF.search(name) is None


def is_path(path: str) -> bool:
    """Tell whether a file of a repo may be called so, here and wherever the repo is taken to."""
    segments = path.split("/")
    return (
        _UNPRINTABLE.search(path) is None
        and "\\" not in path
        and len(path.encode()) <= LONGEST_PATH
        and not any(each in ("", ".", "..") or _DRIVE.match(each) for each in segments)
        and not any(is_gits_own(each) for each in segments)
        and all(len(each.encode()) <= LONGEST_SEGMENT for each in segments)
    )


def is_gits_own(segment: str) -> bool:
    """Recognize names that git keeps for itself, in each spelling that some file system takes.

    As git's fsck has it: HFS+ ignores some characters and the case, NTFS the case, dots and spaces
    at the end and what follows a colon, and it knows each name by a short one too.
    """
    if segment in GITS_OWN[2:]:
        return False
    name = _IGNORED_BY_HFS.sub("", segment).lower().partition(":")[0].rstrip(". ")
    start, tilde, number = name.partition("~")
    is_short = start in _SHORT or any(each.startswith(start) for each in _SHORT_HASHES)
    return name in GITS_OWN or (tilde == "~" and number.isdecimal() and is_short)


def address(text: str) -> Address:
    """Read org/name or org/name@revision; raise UserError for what can't be either."""
    repo, at, revision = text.partition("@")
    if not is_repo(repo):
        raise UserError(
            f"{text!r} is not a repo name: write org/name or org/name@revision, of letters, "
            "digits, '-', '_' and '.', without '--' or '..', not ending with '-', '.' or '.git'"
        )
    if at and not is_revision(revision):
        raise UserError(
            f"{text!r} names no revision of {repo}: write a branch, a tag or a commit after the "
            "@, or leave the @ out for main"
        )
    return Address(repo, revision if at else None)


def require_account(name: str) -> str:
    """Return the name of a user or an organization; raise UserError for what can't be one."""
    if not is_name(name):
        raise UserError(
            f"{name!r} is not an organization name: use only letters, digits, '-', '_' and '.', "
            "without '--' or '..', not ending with '-', '.' or '.git'"
        )
    return name
