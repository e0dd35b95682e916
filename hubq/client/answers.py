"""What a Hub may answer: the form of all that hubq takes from it, checked before anybody reads it.

A Hub can be anybody's. What it says becomes paths, headers, numbers and text on a terminal, in
huggingface_hub even more than here, so each kind of answer has a record; one that doesn't fit is
refused, and nothing beyond the record's fields goes on. `hubq.client.border` applies them.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    StringConstraints,
)

from hubq.errors import UserError
from hubq.records.vocabulary import is_path, is_repo

MOST_BYTES = 2**50  # of a file: more than any Hub takes
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Blob = Commit  # git's id of a small file
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(strict=True, ge=0, le=MOST_BYTES)]
Word = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x{9f}]{0,256}$")]
Words = Annotated[str, StringConstraints(max_length=10_000)]
Link = Annotated[str, StringConstraints(pattern=r"^https?://[^\x00-\x20\x7f]{1,8000}$")]
Gate = Literal["auto", "manual"] | bool


class ImplausibleError(UserError):
    """What no Hub says, or what must not be believed; asking again would not help."""


def _path(text: str) -> str:
    if not is_path(text):
        raise ValueError("leads out of its folder, or is not a file path")
    return text


def _repo(text: str) -> str:
    if not is_repo(text):
        raise ValueError("is not a repo name")
    return text


def _as_the_hub_writes(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Path = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_path)]
Repo = Annotated[str, StringConstraints(max_length=200), AfterValidator(_repo)]
Date = Annotated[AwareDatetime, PlainSerializer(_as_the_hub_writes)]


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
    usedStorage: Size | None = None  # noqa: N815 - the Hub's spelling, here and below
    sdk: Words | None = None  # of a Space
    tags: list[Words] | None = None
    siblings: list[Sibling] | None = None
    cardData: dict[str, JsonValue] | None = None  # noqa: N815


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


class RepoName(Answer):
    """Which repo a discussion is about."""

    name: Repo
    type: Word


class Talker(Answer):
    """Who opened a discussion."""

    name: Word


class Talk(Answer):
    """A discussion or a pull request in a list."""

    num: Annotated[int, Field(strict=True, gt=0, lt=10**9)]
    title: Words
    status: Word
    isPullRequest: bool  # noqa: N815
    createdAt: Date  # noqa: N815
    repo: RepoName
    author: Talker = Talker(name="deleted")  # as the Hub's own client says of one who left


class Talks(Answer):
    """A page of discussions."""

    discussions: list[Talk]
    count: Size
    start: Size


class Opened(Answer):
    """A discussion or a pull request that was opened."""

    num: Annotated[int, Field(strict=True, gt=0, lt=10**9)]


class Owner(Answer):
    """Whose a collection is."""

    name: Word


class Note(Answer):
    """What is said of an item of a collection."""

    text: Words = ""


class Item(Answer):
    """What a collection lists."""

    object: Word = Field(alias="_id")
    id: Word
    type: Word
    position: int | float
    note: Note | None = None


class CollectionInList(Answer):
    """A collection in a list, with its first items; the client numbers them itself."""

    slug: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,200}/[A-Za-z0-9._-]{1,200}$")
    ]
    title: Word
    owner: Owner
    items: list[Item]
    lastUpdated: Date  # noqa: N815
    private: bool
    theme: Word
    upvotes: int
    description: Words | None = None


class Collection(CollectionInList):
    """A collection with all its items."""

    position: int


class NewStatus(Answer):
    """What a discussion became."""

    status: Word


class StatusEvent(Answer):
    """That a discussion was closed, or opened again."""

    id: Word
    type: Literal["status-change"]
    createdAt: Date  # noqa: N815
    data: NewStatus


class StatusChange(Answer):
    """What a Hub answers to that."""

    newStatus: StatusEvent  # noqa: N815


class Org(Answer):
    """An organization that a user belongs to."""

    name: Word
    roleInOrg: Word | None = None  # noqa: N815
    isEnterprise: bool | None = None  # noqa: N815
    plan: Word | None = None  # that it pays for


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
    isPro: bool | None = None  # noqa: N815 - whether they pay
    orgs: list[Org] = []
    auth: Auth | None = None


class Created(Answer):
    """Where a repo is."""

    url: Link


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
