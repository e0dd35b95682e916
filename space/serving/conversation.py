"""A comparison as it is kept between two prompts: asking on, and what the bases say of answers.

Each answer is read by the base of its own model, one after the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event as Flag
from typing import Any

from hubq.client.client import Client
from hubq.errors import UserError
from releases.catalogue import Catalogue
from releases.models import Problem, Released
from serving.generation import Generation
from serving.messages import (
    Failed,
    Finished,
    Loading,
    Message,
    Model,
    Queued,
    Request,
    Settings,
    Statistics,
)
from serving.streams import RequestOrEvent, Side, Start
from serving.token_divergence import Answer, Base, ExaminedAnswer, examine

BASE = "the base"  # what it is called in sentences
DONE = "done"


@dataclass(frozen=True)
class Turn:
    """A prompt and what one side made of it."""

    prompt: str
    text: str
    note: str
    failed: bool
    statistics: Statistics | None
    answer: Answer | None = None  # of the last turn, token by token, where it can be examined


@dataclass(frozen=True)
class Line:
    """All turns of one model."""

    name: str
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class Chat:
    """The lines of all sides, which were asked the same."""

    system: str = ""
    settings: Settings = field(default_factory=Settings)  # of the last turn
    lines: tuple[Line, ...] = ()
    picture: str = ""  # sha256 of the one that came with the prompts; it itself is not kept

    @property
    def names(self) -> list[str]:
        """Name the models."""
        return [line.name for line in self.lines]

    @property
    def prompts(self) -> list[str]:
        """List what was asked."""
        return [turn.prompt for turn in self.lines[0].turns] if self.lines else []

    def goes_on(self, names: Sequence[str], system: str, picture: str = "") -> bool:
        """Tell whether a prompt to these models is one more turn."""
        return (self.names, self.system, self.picture) == (list(names), system, picture)

    def without_last(self) -> "Chat":
        """Take the last turn back."""
        return replace(self, lines=tuple(replace(x, turns=x.turns[:-1]) for x in self.lines))

    def messages(self, number: int, prompt: str, picture: str | None = None) -> tuple[Message, ...]:
        """Return what one side's model reads; a turn that failed was never said.

        A picture, in base64, belongs to the first prompt.
        """
        system = [Message(role="system", content=self.system)] if self.system.strip() else []
        said = [
            message
            for turn in self.lines[number].turns
            if turn.text and not turn.failed
            for message in (
                Message(role="user", content=turn.prompt),
                Message(role="assistant", content=turn.text),
            )
        ]
        asked = [*said, Message(role="user", content=prompt)]
        asked[0] = asked[0].model_copy(update={"picture": picture})
        return (*system, *asked)

    def with_turn(self, prompt: str, settings: Settings, sides: Sequence[Side]) -> "Chat":
        """Add what came of a prompt; earlier turns are kept as text only."""
        lines = tuple(
            replace(line, turns=(*_told(line), replace(turn(prompt, side), answer=_answer(side))))
            for line, side in zip(self.lines, sides, strict=True)
        )
        return replace(self, settings=settings, lines=lines)


def begin(names: Sequence[str], system: str, picture: str = "") -> Chat:
    """Return a chat in which nothing was said yet."""
    return Chat(system=system, lines=tuple(Line(name) for name in names), picture=picture)


@dataclass(frozen=True)
class ComparisonService:
    """What answers are made with."""

    catalogue: Catalogue
    generation: Generation[Any]

    def answer(
        self, name: str, messages: tuple[Message, ...], settings: Settings, stop: Flag
    ) -> Iterator[RequestOrEvent]:
        """Yield the request and the events of a model that visitors chose by its name."""
        found = self.catalogue.pick(name)
        if isinstance(found, Problem):
            yield Failed(text=found.sentence)
            return
        yield Loading(text="looking it up")
        try:
            model = reach(found, self.catalogue.client)
        except UserError as error:
            yield Failed(text=str(error))
            return
        yield from self.ask(model, name, messages, settings, stop)

    def ask(
        self,
        model: Model,
        title: str,
        messages: tuple[Message, ...],
        settings: Settings,
        stop: Flag,
    ) -> Iterator[RequestOrEvent]:
        """Yield the request and the events of a model that visitors are told of by a title."""
        request = Request(model=model, title=title, messages=messages, settings=settings)
        yield request
        yield from self.generation.generate(request, stop)

    def starts(
        self,
        chat: Chat,
        prompt: str,
        settings: Settings,
        stop: Flag,
        picture: str | None = None,
    ) -> list[Start]:
        """Return what begins each side's answer to the next prompt of a chat."""
        return [
            partial(self.answer, name, chat.messages(number, prompt, picture), settings, stop)
            for number, name in enumerate(chat.names)
        ]


def _told(line: Line) -> tuple[Turn, ...]:
    return tuple(replace(each, answer=None) for each in line.turns)


def turn(prompt: str, side: Side) -> Turn:
    """Return what there is to show of a prompt and its answer."""
    return Turn(prompt, side.text, side.note, side.failed, side.statistics)


def _answer(side: Side) -> Answer | None:
    """Return a greedy answer to words alone, token by token, as far as there is one."""
    if side.request is None or side.failed or not is_greedy(side.request.settings):
        return None
    if side.request.pictures:  # which are not kept for the base to see
        return None
    try:
        return Answer.of(side.request, side.events)
    except UserError:  # it was stopped before it said anything
        return None


def is_greedy(settings: Settings) -> bool:
    """Tell whether each token is the model's own choice, so that choices can be compared."""
    return settings.temperature == 0 and settings.repetition_penalty == 1


def reach(model: Released, client: Client) -> Model:
    """Return where a model's weights are, fetched where a recipe names them in its own way.

    A repo is not fetched yet: whether it fits into memory is asked first.
    """
    weights = model.weights
    if weights is None:
        raise UserError(
            f"only the report of {model.name} is available here, not its weights: its numbers can "
            "be read, but it can't answer"
        )
    if weights.repo is not None:
        repo, _, revision = weights.repo.partition("@")
        return Model(repo=repo, revision=revision or None)
    section = weights.section
    if section is not None and section.hub is not None:
        repo, _, revision = (weights.identity or section.hub).partition("@")
        return Model(repo=repo, revision=revision or None)
    folder = weights.fetch(client)
    return Model(folder=folder, changed=(folder / "config.json").stat().st_mtime_ns)


@dataclass(frozen=True)
class BaseScoring:
    """What the base says of an answer, or why it says nothing."""

    name: str
    examined: ExaminedAnswer | None
    is_base: bool = False
    note: str = ""


def last_answer(line: Line) -> Answer | None:
    """Return what there is to examine."""
    return line.turns[-1].answer if line.turns else None


def _base(service: ComparisonService, line: Line, lines: Sequence[Line]) -> Base:
    """Return what a line's answer is held against; raise UserError where that isn't to be had."""
    model = service.catalogue.pick(line.name)
    if isinstance(model, Problem):
        raise UserError(model.sentence)
    base: Released | Problem = service.catalogue.pick(model.base)
    if isinstance(base, Problem):
        raise UserError(base.sentence)
    mine = last_answer(line)
    theirs = next((last_answer(each) for each in lines if each.name == base.name), None)
    # After different turns the base answered something else: then its preferences have to do.
    same = theirs is not None and mine is not None and theirs.messages == mine.messages
    return Base(reach(base, service.catalogue.client), BASE, theirs if same else None)


def score_by_bases(
    service: ComparisonService, lines: Sequence[Line], stop: Flag
) -> Iterator[tuple[tuple[BaseScoring, ...], str]]:
    """Yield what was read so far, and what is being done; one answer's trouble is its own."""
    done: tuple[BaseScoring, ...] = ()
    for line in lines:
        if stop.is_set():
            break
        for item in _read(service, line, lines, stop):
            if isinstance(item, BaseScoring):
                done = (*done, item)
            yield done, item if isinstance(item, str) else ""
    yield done, DONE


def _read(
    service: ComparisonService, line: Line, lines: Sequence[Line], stop: Flag
) -> Iterator[BaseScoring | str]:
    """Yield sentences while an answer is read, and at last the reading."""
    answer = last_answer(line)
    if answer is None:
        yield BaseScoring(line.name, None, note="there is no answer to examine")
        return
    try:
        base = _base(service, line, lines)
    except UserError as error:
        yield BaseScoring(line.name, None, note=str(error))
        return
    titled = answer.model_copy(update={"title": short(line.name)})
    for event in examine(service.generation, base, titled, stop):
        match event:
            case ExaminedAnswer():
                yield BaseScoring(line.name, event, is_base=answer.model == base.model)
            case Failed(text=text):
                yield BaseScoring(line.name, None, note=text)
            case Finished():
                yield BaseScoring(line.name, None, note="stopped")
            case Queued(place=place):
                yield f"Reading {line.name}: in the queue, place {place}"
            case Loading(text=text):
                yield f"Reading {line.name}: {text}"


def short(name: str) -> str:
    """Return a model's name without its organization."""
    return name.rpartition("/")[2]
