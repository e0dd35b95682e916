"""YAML whose every value remembers its line, so that a mistake can be shown where it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Place = tuple[str | int, ...]  # keys and list positions from the top

PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}


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


def parse(text: str) -> MarkedYaml:
    """Read a document with plain values only: no tags, no anchors, no key twice."""
    marked = MarkedYaml()
    try:
        _refuse_anchors(text, marked)
        if marked.mistakes:
            return marked
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        marked.mistakes.append((mark.line + 1 if mark else 1, f"no YAML: {error.problem}"))
        return marked
    except yaml.reader.ReaderError as error:
        marked.mistakes.append((1, f"no YAML: {error.reason} at character {error.position}"))
        return marked
    except RecursionError:
        marked.mistakes.append((1, "no YAML for hubq: it is nested far too deep"))
        return marked
    if node is not None:
        marked.values = _values(node, (), marked)
    return marked


def _refuse_anchors(text: str, marked: MarkedYaml) -> None:
    """Name every anchor: an alias could repeat a value without end."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if getattr(event, "anchor", None) and event.start_mark:
            marked.mistakes.append(
                (event.start_mark.line + 1, "anchors (& and *) are not for recipes; repeat it")
            )


def _values(node: yaml.Node, place: Place, marked: MarkedYaml) -> Any:  # noqa: ANN401
    """Return a node's plain values, and note the lines of all below it."""
    marked.lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        return dict(_items(node, place, marked))
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_values(each, (*place, number), marked) for number, each in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and node.tag in PLAIN_TAGS:
        return _plain(node, marked)
    if node.tag == "tag:yaml.org,2002:timestamp" and isinstance(node, yaml.ScalarNode):
        return node.value  # a recipe has no dates: 2024-05-01 is a revision
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    marked.mistakes.append((node.start_mark.line + 1, f"the tag {tag} is not for recipes"))
    return None


def _plain(node: yaml.ScalarNode, marked: MarkedYaml) -> Any:  # noqa: ANN401
    try:
        return yaml.SafeLoader("").construct_object(node)
    except ValueError as error:  # such as a number of thousands of digits
        marked.mistakes.append((node.start_mark.line + 1, f"no plain value: {error}"))
        return None


def _items(
    node: yaml.MappingNode, place: Place, marked: MarkedYaml
) -> Iterator[tuple[str | int, Any]]:
    """Yield a mapping's keys and values; note a key that stands twice."""
    seen: dict[object, int] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in seen:
            dotted = ".".join(map(str, (*place, key)))
            marked.mistakes.append((line, f"{dotted}: stands already on line {seen[key]}"))
            continue
        seen[key] = line
        marked.lines[*place, key] = line
        yield key, _values(value_node, (*place, key), marked)
