"""What is asked of a model and what comes back: plain records that cross from process to process.

A picture crosses as it came, in base64, and is read where the model is. An answer comes as events.
Some are for the eyes of visitors (`text` is then a sentence), and none holds more of a model than
its caller chose to call it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from hubq.errors import UserError, did_you_mean
from hubq.records.record import Record

PICTURE_TOKENS = 4096  # that a picture may take; LLaVA-NeXT's largest takes 2,928


class JsonRecord(Record):
    """A record that keeps minus infinity, the logarithm of nothing, as JSON."""

    model_config = ConfigDict(ser_json_inf_nan="constants")


class Model(JsonRecord):
    """A folder on this machine, or a repo of the Hub at a revision (None: main)."""

    folder: Path | None = None
    changed: int = 0  # when the folder's config.json was written: a new run is another model
    repo: str | None = None
    revision: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.folder is None) == (self.repo is None):
            raise ValueError("a model is either a folder or a repo")
        return self

    @property
    def name(self) -> str:
        """What the model is, in one word: org/name, org/name@revision, or folder@time."""
        if self.repo is None:
            return f"{self.folder}@{self.changed}"
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


class Message(JsonRecord):
    """A turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str
    picture: str | None = None  # base64 of a file that was looked at

    @property
    def words(self) -> dict[str, str]:
        """What a template lays out."""
        return {"role": self.role, "content": self.content}

    @field_validator("content", mode="before")
    @classmethod
    def _whole(cls, content: object) -> object:
        """Replace halves of characters, which browsers can send and no encoding holds."""
        return content.encode(errors="replace").decode() if isinstance(content, str) else content


class Settings(JsonRecord):
    """How tokens are chosen. Temperature 0 is greedy: the likeliest each time."""

    max_new_tokens: int = Field(256, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)  # 0: all
    repetition_penalty: float = Field(1.0, ge=1, le=2)
    seed: int = Field(0, ge=0, lt=2**31)  # as a link and a browser hold it exactly

    @classmethod
    def checked(cls, given: Mapping[str, object]) -> Self:
        """Make settings of what a visitor gave; raise UserError that lists all mistakes."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            found = "; ".join(_mistake(str(each["loc"][0]), each) for each in error.errors())
            raise UserError(f"these settings can't be used: {found}") from error


def _mistake(name: str, error: Mapping[str, object]) -> str:
    if error["type"] == "extra_forbidden":
        return f"{name} is not a setting; {did_you_mean(name, Settings.model_fields)}"
    wanted = str(error["msg"]).removeprefix("Input ").replace("should be", "must be")
    return f"{name} {wanted}, not {error['input']!r:.40}"


class Request(JsonRecord):
    """One answer that is wanted of one model; `title` is what visitors are told of the model."""

    kind: Literal["answer"] = "answer"
    model: Model
    title: str
    messages: tuple[Message, ...]
    settings: Settings = Settings()

    @property
    def pictures(self) -> tuple[str, ...]:
        """The pictures among the messages."""
        return tuple(each.picture for each in self.messages if each.picture is not None)


class Scoring(JsonRecord):
    """What a model thinks of an answer, another model's or its own, is wanted.

    A model with the same vocabulary scores the very tokens behind the very prompt; another one
    lays the messages out and cuts the text into tokens its own way. `keep` names a file for the
    whole distributions; another model's scoring reads them (`against`) for its divergence.
    """

    kind: Literal["scoring"] = "scoring"
    model: Model
    title: str
    messages: tuple[Message, ...]
    text: str
    vocabulary: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    keep: Path | None = None
    against: Path | None = None


class Queued(JsonRecord):
    """The request waits; 1 is next."""

    kind: Literal["queued"] = "queued"
    place: int


class Loading(JsonRecord):
    """The model is being fetched or loaded."""

    kind: Literal["loading"] = "loading"
    text: str


class Ready(JsonRecord):
    """The model is loaded: what a worker says once."""

    kind: Literal["ready"] = "ready"


class Prompt(JsonRecord):
    """What the model reads: the laid out messages, and which vocabulary their ids are of."""

    kind: Literal["prompt"] = "prompt"
    ids: tuple[int, ...]
    vocabulary: str


class Alternative(JsonRecord):
    """A token that could stand at a position."""

    id: int
    text: str
    probability: float
    ends: bool = False  # it ends an answer


class Token(JsonRecord):
    """A token of the answer; `text` is empty while a character still lacks bytes."""

    kind: Literal["token"] = "token"
    id: int
    text: str
    logprob: float  # under this model, before temperature and the like
    alternatives: tuple[Alternative, ...]  # the likeliest, with or without this one


class Statistics(JsonRecord):
    """How the answer goes: seconds, tokens a second after the first, bytes of the process."""

    kind: Literal["statistics"] = "statistics"
    tokens: int
    first_token: float
    rate: float | None  # None: of one token there is none
    memory: int
    peak: int


class Finished(JsonRecord):
    """The answer is over: the model ended it (with the token `end`), it is long enough, or stop.

    `rest` is the text of last tokens that never became whole characters.
    """

    kind: Literal["finished"] = "finished"
    reason: Literal["end", "length", "stopped"]
    end: Token | None = None
    rest: str = ""


class Failed(JsonRecord):
    """There is no answer, or no more of it; `text` says why to a visitor."""

    kind: Literal["failed"] = "failed"
    text: str


class Scored(JsonRecord):
    """What a model thinks of one token of an answer."""

    id: int
    text: str
    probability: float
    rank: int  # 1: its own choice
    ends: bool
    alternatives: tuple[Alternative, ...]
    kl: float | None = None  # nats, of the kept distribution from this model's


class Scores(JsonRecord):
    """What a model thinks of an answer, token by token: the answer's tokens, or its own ones."""

    kind: Literal["scores"] = "scores"
    aligned: Literal["tokens", "text"]
    tokens: tuple[Scored, ...]


Order = Annotated[Request | Scoring, Field(discriminator="kind")]
Event = Annotated[
    Queued | Loading | Ready | Prompt | Token | Statistics | Finished | Failed | Scores,
    Field(discriminator="kind"),
]
ORDERS: TypeAdapter[Order] = TypeAdapter(Order)
EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
LAST = (Finished, Failed, Scores)  # after one of these nothing comes


def in_words(text: str, order: Order, folder: Path | None) -> str:
    """Return an error's text in one line, with the model under no name but its title."""
    line = " ".join(text.split("\n"))
    for name in (folder and str(folder), order.model.name, order.model.repo):
        line = line.replace(name, order.title) if name else line
    return line
