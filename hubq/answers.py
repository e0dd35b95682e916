"""What a Hub may answer: the form of all that hubq takes from it, checked before anybody reads it.

A Hub can be anybody's. What it says becomes paths, headers, numbers and text on a terminal, in
huggingface_hub even more than here, so each kind of answer has a record; one that doesn't fit is
refused, and nothing beyond the record's fields goes on. `hubq.border` applies them.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from hubq.errors import UserError
from hubq.records.repo_names import is_path, is_repo

MOST_BYTES = 2**50  # of a file: more than any Hub takes


class ImplausibleError(UserError):
    """What no Hub says, or what must not be believed; asking again would not help."""


def _path(text: str) -> str:
    if not is_path(text):
        raise ValueError("leads out of its folder, or is no path of a file")
    return text


def _repo(text: str) -> str:
    if not is_repo(text):
        raise ValueError("is no name of a repo")
    return text


def _as_the_hub_writes(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Blob = Commit  # git's id of a small file
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(strict=True, ge=0, le=MOST_BYTES)]
Path = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_path)]
Repo = Annotated[str, StringConstraints(max_length=200), AfterValidator(_repo)]
Word = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x{9f}]{0,256}$")]
Words = Annotated[str, StringConstraints(max_length=10_000)]
Link = Annotated[str, StringConstraints(pattern=r"^https?://[^\x00-\x20\x7f]{1,8000}$")]
Date = Annotated[AwareDatetime, PlainSerializer(_as_the_hub_writes)]
Gate = Literal["auto", "manual"] | bool


class Answer(BaseModel):
    """A part of an answer: what isn't named here is left out."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class Sibling(Answer):
    """A file of a repo, by its path."""

    rfilename: Path


class RepoInfo(Answer):
    """What a Hub says of a model, a data set or a Space."""

    id: Repo
    sha: Commit | None = None
    private: bool | None = None
    gated: Gate | None = None
    sdk: Words | None = None  # of a Space
    tags: list[Words] | None = None
    siblings: list[Sibling] | None = None
    cardData: dict[str, JsonValue] | None = None  # noqa: N815 - the Hub's spelling, here and below


class LargeFile(Answer):
    """What stands in a repo for a large file."""

    oid: Digest
    size: Size
    pointerSize: Size = 0  # noqa: N815


class File(Answer):
    """A file of a listing."""

    type: Literal["file"]
    path: Path
    oid: Blob
    size: Size
    lfs: LargeFile | None = None
    xetHash: Digest | None = None  # noqa: N815


class Folder(Answer):
    """A folder of a listing."""

    type: Literal["directory"]
    path: Path
    oid: Word = ""


class Author(Answer):
    """Who made a commit."""

    user: Word = ""


class PastCommit(Answer):
    """A commit of a repo's history."""

    id: Commit
    title: Words = ""
    message: Words = ""
    date: Date
    authors: list[Author] = []


class Org(Answer):
    """An organization that a user belongs to."""

    name: Word
    roleInOrg: Word | None = None  # noqa: N815


class Entity(Answer):
    """What a fine-grained token is for."""

    name: Word | None = None


class Grant(Answer):
    """What a fine-grained token may do there."""

    entity: Entity = Entity()
    permissions: list[Word] = []


class Grants(Answer):
    """All that a fine-grained token may do."""

    scoped: list[Grant] = []


class AccessToken(Answer):
    """What a token is."""

    role: Word | None = None
    fineGrained: Grants | None = None  # noqa: N815


class Auth(Answer):
    """How the asking one was recognized."""

    accessToken: AccessToken | None = None  # noqa: N815


class Identity(Answer):
    """Who asks."""

    name: Word
    orgs: list[Org] = []
    auth: Auth | None = None


class Created(Answer):
    """Where a repo is."""

    url: Link


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


class Remark(Answer):
    """What is said of a card's metadata."""

    message: Words


class Judgement(Answer):
    """Whether a card's metadata is valid."""

    errors: list[Remark] = []
    warnings: list[Remark] = []


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


class Hardware(Answer):
    """What a Space runs on, and what it is to run on."""

    current: Word | None = None
    requested: Word | None = None


class Runtime(Answer):
    """How a Space does."""

    stage: Word
    hardware: Hardware | None = None
    gcTimeout: Size | None = None  # noqa: N815


class Variable(Answer):
    """A variable of a Space; of a secret without its value."""

    key: Word | None = None
    value: Words | None = None
    description: Words | None = None
    updatedAt: Date | None = None  # noqa: N815


class Index(Answer):
    """Which file holds which tensor."""

    weight_map: dict[str, Path]


Tree = list[Annotated[File | Folder, Field(discriminator="type")]]
_KIND = r"/api/(?:models|datasets|spaces)"
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
        what = "a web page where JSON should be" if page else "something that isn't JSON"
        return f"answers with {what}: a login page of the network, or a proxy, may be in between"
    where = ".".join(map(str, first["loc"])) or "the whole"
    return f"answers in a form that no Hub has ({where}: {first['msg']})"
