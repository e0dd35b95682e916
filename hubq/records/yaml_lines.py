"""YAML of people, whose every value remembers its line, so that a mistake can be shown where it is.

Its size is bounded before anything is built from it: characters before the first is looked at,
values and depth while they are counted. An alias counts as all that it repeats.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

Place = tuple[str | int, ...]  # keys and list positions from the top

PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d{1,4}")  # 1e-3: a number since YAML 1.2
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Bounds(NamedTuple):
    """How large a document may be."""

    characters: int
    values: int
    depth: int = 30
    anchors: bool = False  # whether it may say "the same again"


RECIPE = Bounds(characters=100_000, values=5_000)
CARD = Bounds(characters=2_000_000, values=100_000, anchors=True)  # the longest are leaderboards'


@dataclass
class MarkedYaml:
    """A document's plain values, the line of each, and what is wrong with its YAML."""

    values: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    mistakes: list[tuple[int, str]] = field(default_factory=list)  # line and sentence

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest place around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def parse(text: str, bounds: Bounds = RECIPE) -> MarkedYaml:
    """Read a document with plain values only: no tags, no key twice, anchors where they may be."""
    marked = MarkedYaml()
    reading = _Reading(marked, bounds)
    try:
        reading.measure(text)
        if not marked.mistakes:
            reading.read(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        marked.mistakes.append((mark.line + 1 if mark else 1, f"invalid YAML: {error.problem}"))
    except yaml.reader.ReaderError as error:
        marked.mistakes.append((1, f"invalid YAML: {error.reason} at character {error.position}"))
    except UnicodeEncodeError as error:
        marked.mistakes.append((1, f"invalid YAML: {error.reason} at character {error.start}"))
    except _TooLargeError as error:
        marked.mistakes.append((error.line, f"YAML that hubq does not read: {error}"))
    return marked


class _TooLargeError(Exception):
    """What makes a document larger than its bounds."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


class _Reading:
    """One document on its way to plain values."""

    def __init__(self, marked: MarkedYaml, bounds: Bounds) -> None:
        self.marked = marked
        self.bounds = bounds
        self.count = 0
        self.scalars = yaml.constructor.SafeConstructor()

    def measure(self, text: str) -> None:
        """Refuse a document that is too large, and name every anchor where none may be."""
        if len(text) > self.bounds.characters:
            raise _TooLargeError(f"it has more than {self.bounds.characters:,} characters", 1)
        depth = 0
        for event in yaml.parse(text, Loader=LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            self._count(event, depth)
            if getattr(event, "anchor", None) and not self.bounds.anchors:
                self._mistake(
                    event, "anchors (& and *) are not allowed in recipes; repeat the value"
                )
        self.count = 0

    def read(self, text: str) -> None:
        """Take the plain values, and note the lines of all of them."""
        node = yaml.compose(text, Loader=LOADER)
        if node is not None:
            self.marked.values = self._values(node, ())

    def _count(self, found: yaml.Event | yaml.Node, depth: int) -> None:
        self.count += isinstance(found, yaml.NodeEvent | yaml.Node)
        if depth > self.bounds.depth:
            raise _TooLargeError("it is nested too deeply", _line(found))
        if self.count > self.bounds.values:
            raise _TooLargeError(f"it has more than {self.bounds.values:,} values", _line(found))

    def _mistake(self, found: yaml.Event | yaml.Node, sentence: str) -> None:
        self.marked.mistakes.append((_line(found), sentence))

    def _values(self, node: yaml.Node, place: Place) -> Any:  # noqa: ANN401
        """Return a node's plain values, and note the lines of all below it."""
        self._count(node, len(place))
        self.marked.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return dict(self._items(node, place))
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._values(each, (*place, number)) for number, each in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in PLAIN_TAGS:
            return self._plain(node)
        if node.tag == "tag:yaml.org,2002:timestamp" and isinstance(node, yaml.ScalarNode):
            return node.value  # a recipe has no dates: 2024-05-01 is a revision
        self._mistake(
            node, f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not supported"
        )
        return None

    def _plain(self, node: yaml.ScalarNode) -> Any:  # noqa: ANN401
        if not node.style and EXPONENT.fullmatch(node.value):
            return float(node.value)
        try:
            return self.scalars.construct_object(node)
        except (ValueError, LookupError, ArithmeticError) as error:  # thousands of digits, !!int x
            self._mistake(node, f"not a plain value: {error}")
            return None

    def _items(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str | int, Any]]:
        """Yield a mapping's keys and values; note a key that stands twice, and one that is none."""
        seen: dict[object, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                self._mistake(key_node, "a key must be one word; << and others are not supported")
                continue
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in seen:
                dotted = ".".join(map(str, (*place, key)))
                self._mistake(key_node, f"{dotted}: already set on line {seen[key]}")
                continue
            seen[key] = line
            self.marked.lines[*place, key] = line
            yield key, self._values(value_node, (*place, key))


def _line(found: yaml.Event | yaml.Node) -> int:
    return found.start_mark.line + 1 if found.start_mark else 1
