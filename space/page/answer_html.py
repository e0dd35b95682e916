"""Answers side by side as HTML. All text is escaped: what models and visitors write stays text."""

from collections.abc import Iterable, Sequence
from html import escape

from hubq.machine.files import gigabytes
from page.token_html import visible
from serving.conversation import Line, Turn
from serving.messages import Statistics
from serving.streams import Side
from votes.ballots import Standing

STYLE = """
.block.hubq-shown > div { padding: 0 !important; }
.block.hubq-shown:not(:has(.prose > *)) { display: none; }
.block.hubq-aloud { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
.hubq-sides { display: grid; gap: var(--spacing-xl);
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr)); }
.hubq-side { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  background: var(--block-background-fill); padding: var(--spacing-xl); min-width: 0;
  display: flex; flex-direction: column; gap: var(--spacing-lg); }
.hubq-side h2 { margin: 0; font-size: var(--text-md); overflow-wrap: anywhere; }
.hubq-said { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6; margin: 0; }
.hubq-asked { background: var(--background-fill-secondary); padding: var(--spacing-md)
  var(--spacing-lg); border-radius: var(--radius-lg);
  max-height: 12rem; overflow: auto; }
.hubq-note { margin: 0; font-size: var(--text-sm); opacity: 0.75; }
.hubq-worth { margin-top: var(--spacing-lg); }
.hubq-failed { opacity: 1; color: var(--error-text-color); }
.hubq-side dl { display: flex; flex-wrap: wrap; gap: 2px var(--spacing-xl); margin: auto 0 0;
  padding-top: var(--spacing-md); border-top: 1px solid var(--border-color-primary);
  font-size: var(--text-sm); font-variant-numeric: tabular-nums; }
.hubq-side dl div { display: flex; gap: 6px; }
.hubq-side dt { opacity: 0.75; }
.hubq-side dd { margin: 0; font-weight: 600; }
.hubq-summary { margin: 0; font-weight: 500; line-height: 1.5; }
.hubq-board { overflow-x: auto; }
.hubq-board table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.hubq-board th, .hubq-board td { padding: var(--spacing-md) var(--spacing-lg); text-align: right;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
  white-space: nowrap; }
.hubq-board table, .hubq-board tr { border: 0 !important; }
.hubq-board th:first-child { text-align: left; font-weight: 500; white-space: normal;
  overflow-wrap: anywhere; min-width: 9rem; }
.hubq-board thead th { opacity: 0.75; font-weight: 400;
  font-size: var(--text-sm); }
.hubq-notice { padding: var(--spacing-lg) var(--spacing-xl); border-radius: var(--radius-lg);
  border: 1px solid var(--border-color-primary); border-left: 4px solid var(--color-accent); }
"""

WORTH = (
    "These costs apply to this moment only: the models share this machine, and packed ones are "
    "unpacked here. What was measured of each model alone is under Numbers."
)


def notice(text: str) -> str:
    """Return a sentence that visitors are told, or nothing."""
    return f'<p class="hubq-notice">{escape(_sentence(text))}</p>' if text else ""


def progress_announcement(sides: Sequence[Side]) -> str:
    """Return how far the answers are, for those who hear the page instead of seeing it."""
    return announcement(". ".join(f"{side.title}: {side.note or 'answered'}" for side in sides))


def announcement(text: str) -> str:
    """Return what a screen reader says."""
    return f"<p>{escape(text)}</p>" if text else ""


def grid(panels: Iterable[str], *, busy: bool = False) -> str:
    """Put panels side by side, below one another where it is narrow; `busy`: more is coming."""
    state = ' aria-busy="true"' if busy else ""
    return f'<div class="hubq-sides"{state}>{"".join(panels)}</div>'


def costing(panels: Iterable[str], *, busy: bool = False) -> str:
    """Put panels side by side and say, where they have costs, what these are worth."""
    made = grid(panels, busy=busy)
    return made + (f'<p class="hubq-note hubq-worth">{WORTH}</p>' if "<dl>" in made else "")


def conversation(lines: Sequence[Line]) -> str:
    """Return all turns of all sides."""
    return costing(panel(line.name, [turn_of(each) for each in line.turns]) for line in lines)


def running(lines: Sequence[Line], prompt: str, sides: Sequence[Side]) -> str:
    """Return all turns of all sides with the answers that are just coming."""
    pairs = zip(lines, sides, strict=True)
    panels = (
        panel(line.name, [*map(turn_of, line.turns), side_of(side, prompt)]) for line, side in pairs
    )
    return costing(panels, busy=True)


def panel(title: str, inside: Iterable[str]) -> str:
    """Return one side."""
    name = escape(title)
    return (
        f'<section class="hubq-side" aria-label="Answers of {name}"><h2>{name}</h2>'
        f"{''.join(inside)}</section>"
    )


def turn_of(turn: Turn) -> str:
    """Return a prompt with its answer."""
    return (
        _asked(turn.prompt)
        + _said(turn.text)
        + _note(turn.note, failed=turn.failed)
        + numbers(turn.statistics)
    )


def side_of(side: Side, prompt: str, *, measured: bool = True) -> str:
    """Return an answer that is just coming, with what it costs unless that would betray it."""
    return (
        _asked(prompt)
        + _said(side.text)
        + _note(side.note, failed=side.failed)
        + (numbers(side.statistics) if measured else "")
    )


def numbers(statistics: Statistics | None) -> str:
    """Return what an answer takes."""
    if statistics is None:
        return ""
    rate = "" if statistics.rate is None else _number("speed", f"{statistics.rate:.1f} tokens/s")
    return (
        f"<dl>{_number('first token', f'{statistics.first_token:.2f} s')}{rate}"
        f"{_number('memory', gigabytes(statistics.memory))}"
        f"{_number('tokens', f'{statistics.tokens}')}</dl>"
    )


def standings(every: Sequence[Standing]) -> str:
    """Return the leaderboard as a table."""
    if not every:
        return '<p class="hubq-note">Nobody has voted yet.</p>'
    heads = ("model", "wins", "95 % interval", "votes", "won", "lost", "equal", "both bad")
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    rows = "".join(_standing(each) for each in every)
    return (
        '<div class="hubq-board" tabindex="0" role="region" aria-label="Leaderboard"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="hubq-note">Equal and both bad count as half a win.</p>'
    )


def _standing(row: Standing) -> str:
    cells = (
        f"{100 * row.rate:.0f} %",
        f"{100 * row.low:.0f} to {100 * row.high:.0f} %",
        *map(str, (row.votes, row.wins, row.losses, row.ties, row.both_bad)),
    )
    name = f'<th scope="row">{escape(row.model)}</th>'
    return f"<tr>{name}{''.join(f'<td>{each}</td>' for each in cells)}</tr>"


def _number(what: str, value: str) -> str:
    return f"<div><dt>{what}</dt><dd>{escape(value)}</dd></div>"


def _asked(prompt: str) -> str:
    return f'<p class="hubq-said hubq-asked">{escape(visible(prompt))}</p>'


def _said(text: str) -> str:
    return f'<p class="hubq-said">{escape(visible(text))}</p>' if text else ""


def _note(text: str, *, failed: bool) -> str:
    more = " hubq-failed" if failed else ""
    return f'<p class="hubq-note{more}">{escape(_sentence(text))}</p>' if text else ""


def _sentence(text: str) -> str:
    """Begin a sentence with a capital, unless it begins with the name of a model."""
    return text if "/" in text.partition(" ")[0] else text[:1].upper() + text[1:]
