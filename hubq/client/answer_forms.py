"""Which form the answer of each route has, those to uploads among them.

What has its form passes, reduced to what the form names; all else is refused.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from hubq.client.answers import (
    MOST_BYTES,
    Answer,
    Blob,
    Collection,
    CollectionInList,
    Commit,
    Created,
    Digest,
    File,
    Folder,
    Identity,
    ImplausibleError,
    Link,
    Opened,
    PastCommit,
    Path,
    RepoInfo,
    Runtime,
    Size,
    StatusChange,
    Talks,
    Variable,
    Word,
    Words,
)

Tree = list[Annotated[File | Folder, Field(discriminator="type")]]
_KIND = r"/api/(?:models|datasets|spaces)"


class UploadMode(Answer):
    """How a file is to be sent."""

    path: Path
    uploadMode: Literal["lfs", "regular"]  # noqa: N815
    shouldIgnore: bool  # noqa: N815
    oid: Blob | Digest | None = None


class UploadModes(Answer):
    """How files are to be sent."""

    files: list[UploadMode]


class Committed(Answer):
    """The commit that was made."""

    commitOid: Commit  # noqa: N815
    commitUrl: Link  # noqa: N815
    pullRequestUrl: Link | None = None  # noqa: N815


class Remark(Answer):
    """What is said of a card's metadata."""

    message: Words


class Judgement(Answer):
    """Whether a card's metadata is valid."""

    errors: tuple[Remark, ...] = ()
    warnings: tuple[Remark, ...] = ()


class LfsHeader(Answer):
    """In which parts a large file goes: `chunk_size`, and beside it the address of each part."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Link]

    chunk_size: Annotated[int, Field(strict=False, gt=0, le=MOST_BYTES)] | None = None


class LfsAction(Answer):
    """Where a large file goes."""

    href: Link
    header: LfsHeader | None = None


class LfsActions(Answer):
    """What is to be done with a large file."""

    upload: LfsAction
    verify: LfsAction | None = None


class LfsError(Answer):
    """Why a large file is not taken."""

    code: int
    message: Words


class LfsObject(Answer):
    """One large file; without actions the Hub has it."""

    oid: Digest
    size: Size
    actions: LfsActions | None = None
    error: LfsError | None = None


class LfsBatch(Answer):
    """What is to be done with large files."""

    objects: list[LfsObject]
    transfer: Word | None = None


class XetTicket(Answer):
    """Where Xet's storage is, and what opens it."""

    casUrl: Link  # noqa: N815
    exp: Size
    accessToken: Words  # noqa: N815


# Method and path of the requests whose answers are read, the longer paths first.
ROUTES: tuple[tuple[str, re.Pattern[str], TypeAdapter[Any]], ...] = tuple(
    (method, re.compile(path + r"\Z"), TypeAdapter(form))
    for method, path, form in (
        ("GET", "/api/whoami-v2", Identity),
        ("POST", "/api/repos/create", Created),
        ("POST", "/api/validate-yaml", Judgement),
        ("GET", rf"{_KIND}/.+/tree/.+", Tree),
        ("POST", rf"{_KIND}/.+/paths-info/.+", Tree),
        ("GET", rf"{_KIND}/.+/commits/.+", list[PastCommit]),
        ("POST", rf"{_KIND}/.+/preupload/.+", UploadModes),
        ("POST", rf"{_KIND}/.+/commit/.+", Committed),
        ("GET", rf"{_KIND}/.+/xet-(?:read|write)-token/.+", XetTicket),
        ("GET", rf"{_KIND}/.+/discussions", Talks),
        ("POST", rf"{_KIND}/.+/discussions", Opened),
        ("POST", rf"{_KIND}/.+/discussions/[0-9]+/status", StatusChange),
        ("GET", "/api/collections", list[CollectionInList]),
        ("POST", "/api/collections", Collection),
        ("GET", "/api/collections/.+", Collection),
        ("POST", "/api/collections/.+/items", Collection),
        ("POST", r".+\.git/info/lfs/objects/batch", LfsBatch),
        ("GET", "/api/spaces/.+/runtime", Runtime),
        ("POST", "/api/spaces/.+/hardware", Runtime),
        ("GET", "/api/spaces/.+/(?:variables|secrets)", dict[str, Variable]),
        ("POST", "/api/spaces/.+/variables", dict[str, Variable]),
        ("GET", _KIND, list[RepoInfo]),
        ("GET", rf"{_KIND}/[^/]+(?:/[^/]+)?(?:/revision/.+)?", RepoInfo),
    )
)


def form_of(method: str, path: str) -> TypeAdapter[Any] | None:
    """Return the form of the answer to a request; None for one whose answer nobody reads."""
    matching = (form for asked, route, form in ROUTES if asked == method and route.search(path))
    return next(matching, None)


def reduced(body: bytes, form: TypeAdapter[Any]) -> bytes:
    """Return the JSON of an answer without what its form doesn't name; raise ImplausibleError."""
    try:
        return form.dump_json(form.validate_json(body), by_alias=True, exclude_none=True)
    except ValidationError as error:
        raise ImplausibleError(_what_is_wrong(body, error)) from None


def _what_is_wrong(body: bytes, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        page = b"<html" in body[:2000].lower() or b"<!doctype" in body[:2000].lower()
        what = "a web page instead of JSON" if page else "something that isn't JSON"
        return f"answers with {what}: a proxy or the network's login page may be in between"
    where = ".".join(map(str, first["loc"])) or "the whole answer"
    return f"gives an answer that no Hub would give ({where}: {first['msg']})"
