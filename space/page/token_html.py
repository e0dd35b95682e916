"""An examined answer: each token shaded by how improbable the base finds it, and a summary.

All text is escaped. A shade is a tint over whatever background there is, so that it reads in light
and dark themes; where the answer diverges is said in words. The mouse finds the probabilities on
each token; the tabulator stops at those only that are shaded or diverge, or it would take hours.
The summary is for people who never heard of logits.
"""

import re
from collections.abc import Iterator, Sequence
from html import escape
from math import exp, log
from typing import Literal

from serving.token_divergence import ExaminedAnswer, ExaminedToken

By = Literal["probability", "kl"]

# From these values on a token has shade 1, 2, ...; both are "so improbable" and "so far off".
IMPROBABILITY = (0.5, 0.8, 0.95, 0.99, 0.999)  # one minus the probability
DIVERGENCE = (0.05, 0.2, 0.5, 1.0, 2.0)  # nats
TINT = (217, 70, 15)  # red, green and blue, laid over the background
OPACITIES = (0.0, 0.12, 0.2, 0.28, 0.36, 0.44)
# Characters that move others about, or that are no text: shown by their number.
MOVERS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

STYLE = (
    """
.hubq-tokens { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.7; }
.hubq-token { unicode-bidi: isolate; border-radius: 3px; padding: 1px 0; position: relative; }
.hubq-token:focus-visible { outline: 2px solid currentColor; }
.hubq-token:focus-visible::after {
  content: attr(title); position: absolute; left: 0; top: 100%; z-index: 10; width: max-content;
  max-width: min(24rem, 80vw); padding: 4px 8px; border-radius: 4px; white-space: normal;
  background: #1f2937; color: #f9fafb; font-size: 0.85rem; line-height: 1.4;
}
.hubq-divergence { font-size: 0.75rem; font-weight: 600; border: 1px solid currentColor;
  border-radius: 3px; padding: 0 4px; margin: 0 2px; white-space: nowrap; }
.hubq-mark { opacity: 0.65; font-size: 0.85em; }
.hubq-legend { font-size: 0.85rem; }
.hubq-legend .hubq-token { display: inline-block; }
@media (max-width: 640px) {
  .hubq-token:focus-visible::after { position: fixed; left: 8px; right: 8px; top: auto;
    bottom: 8px; width: auto; max-width: none; }
}
"""
    + "\n".join(
        f".hubq-shade-{shade} {{ background: rgba({', '.join(map(str, TINT))}, {opacity}); }}"
        for shade, opacity in enumerate(OPACITIES)
    )
    + "\n"
)
LIKELY, POSSIBLE = 0.2, 0.05  # from these probabilities on a choice is called so
AS_LIKELY = 0.5  # of the probability of the base's own choice
# Geometric means of the probabilities of what comes after. SmolLM2-135M rounded to nearest had 0.19
# to 0.35 in four answers at 4 bits, 0.03 to 0.18 at 3 and nothing at 2; itself 0.37 to 0.53.
FOLLOWED, LOST = 0.25, 0.12
FEWEST = 5  # tokens after the first other one that say something about the thread
TINY = 1e-9  # what stands for a probability of nothing
PASSAGE = 4  # tokens that were said before in this order are a repetition, which any model likes
OFTEN = 0.4  # of all tokens: from there on repetition is told


def shaded(examined: ExaminedAnswer, by: By = "probability") -> str:
    """Return the answer as HTML, to be shown with STYLE."""
    label = escape(f"Answer of {examined.title}, token by token")
    spans = "".join(_spans(examined, by))
    return f'<div class="hubq-tokens" role="group" aria-label="{label}">{spans}</div>'


def legend(by: By = "probability") -> str:
    """Return the shades with their meanings as HTML."""
    if by == "kl":
        bounds = [f"{bound:g} nats or more" for bound in DIVERGENCE]
        first = f"less than {DIVERGENCE[0]:g} nats from the base"
    else:
        bounds = [f"{percent(1 - bound)} or less" for bound in IMPROBABILITY]
        first = f"more than {percent(1 - IMPROBABILITY[0])} likely for the base"
    entries = "".join(
        f'<span class="hubq-token hubq-shade-{shade}">&nbsp;{escape(text)}&nbsp;</span> '
        for shade, text in enumerate([first, *bounds])
    )
    return f'<div class="hubq-legend">{entries}</div>'


def _spans(examined: ExaminedAnswer, by: By) -> Iterator[str]:
    begun = 0
    for group in characters(examined.tokens):
        if examined.diverges_at is not None and begun <= examined.diverges_at < begun + len(group):
            said = f"diverges from {escape(examined.base)} here ▸"
            yield f'<span class="hubq-divergence">{said}</span>'
            yield _span(group, by, diverges=True)
        else:
            yield _span(group, by, diverges=False)
        begun += len(group)


def characters(tokens: Sequence[ExaminedToken]) -> Iterator[list[ExaminedToken]]:
    """Group the tokens that make one character; all others stay alone."""
    group: list[ExaminedToken] = []
    for token in tokens:
        group.append(token)
        if token.text or token.ends:
            yield group
            group = []
    if group:
        yield group


def _span(group: Sequence[ExaminedToken], by: By, *, diverges: bool) -> str:
    shade = max(shade_of(each, by) for each in group)
    about = escape(" ".join(_about(each) for each in group))
    reach = f' tabindex="0" aria-description="{about}"' if shade or diverges else ""
    text = _shown(group)
    return f'<span class="hubq-token hubq-shade-{shade}" title="{about}"{reach}>{text}</span>'


def shade_of(token: ExaminedToken, by: By) -> int:
    """Return how strongly a token is shaded, 0 to 5; by KL not at all where that is unknown."""
    if by == "kl":
        return sum((token.kl or 0.0) >= bound for bound in DIVERGENCE)
    return sum(1 - token.base >= bound for bound in IMPROBABILITY)


def _shown(group: Sequence[ExaminedToken]) -> str:
    """Return the text of a group, with what can't be seen made visible."""
    if group[-1].ends:
        return '<span class="hubq-mark">(end)</span>'
    text = "".join(each.text for each in group)
    if not text:
        return '<span class="hubq-mark">(a part of a character)</span>'
    return escape(visible(text)).replace("\n", '<span class="hubq-mark">↵</span>\n')


def visible(text: str) -> str:
    """Show characters that are no text, or that turn others around, by their numbers."""
    return "".join(f"[U+{ord(each):04X}]" if _is_odd(each) else each for each in text)


def _is_odd(character: str) -> bool:
    return character in MOVERS or not (
        character.isprintable() or character.isspace() or character in "\u200c\u200d"
    )


def _about(token: ExaminedToken) -> str:
    """Say what the base and the model think of a token, and what the base likes."""
    what = "the end" if token.ends else quoted(visible(token.text))
    own = "" if token.own is None else f"; this model {percent(token.own)}"
    divergence = "" if token.kl is None else f" KL {token.kl:.2g} nats."
    likes = ", ".join(
        f"{'the end' if each.ends else quoted(visible(each.text))} {percent(each.probability)}"
        for each in token.alternatives[:3]
    )
    return (
        f"{what}: the base {percent(token.base)} (its choice {token.rank}){own}.{divergence} The "
        f"base prefers {likes}."
    )


def summary(examined: ExaminedAnswer) -> str:
    """Say where an answer diverges from the base, how bad the base finds that, and what follows."""
    sentences = [_beginning(examined)]
    if examined.diverges_at is not None:
        sentences.append(_what_follows(examined.tokens, examined.diverges_at))
    repeated = 1 - len(fresh(examined.tokens)) / len(examined.tokens)
    if repeated >= OFTEN:
        sentences.append(f"{percent(repeated)} of the answer repeats what it said before.")
    if examined.aligned == "text":
        sentences.append(
            f"The two tokenize text differently; shown are the tokens of {examined.base}."
        )
    return " ".join(filter(None, sentences))


def _beginning(examined: ExaminedAnswer) -> str:
    count = len(examined.tokens)
    if examined.diverges_at is None:
        return f"The same as {examined.base} for all of its {_count(count)}."
    token = examined.tokens[examined.diverges_at]
    same = (
        f"The same for {_count(examined.diverges_at)}; then" if examined.diverges_at else "At once"
    )
    return f"{same} {_choice(examined, token)}: {_liking(token)}."


def _count(tokens: int) -> str:
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def _choice(examined: ExaminedAnswer, token: ExaminedToken) -> str:
    """Say what the model chose and what the base would have."""
    best = token.alternatives[0]
    own, base = _words(examined, token.text, best.text)
    if token.ends:
        return f"{examined.title} ends where {examined.base} goes on with {quoted(base)}"
    if best.ends:
        return f"{examined.title} goes on with {quoted(own)} where {examined.base} ends"
    return f"{examined.title} says {quoted(own)} where {examined.base} says {quoted(base)}"


def _words(examined: ExaminedAnswer, own: str, base: str) -> tuple[str, str]:
    """Return the two choices as words: with the letters before them that they go on from."""
    if own.strip() == base.strip():  # they differ in a space, so that must be seen
        return own.replace(" ", "␣"), base.replace(" ", "␣")
    assert examined.diverges_at is not None, "only an answer that diverges has a choice"
    before = "".join(each.text for each in examined.tokens[: examined.diverges_at])
    begun = re.search(r"\w*$", before)
    word = begun.group() if begun else ""
    whole = [word + each if each[:1].isalnum() else each for each in (own, base)]
    return whole[0], whole[1]


def _liking(token: ExaminedToken) -> str:
    """Say how likely the base finds the choice, against its own."""
    best = token.alternatives[0].probability
    chance = f"({percent(token.base)}, against {percent(best)})"
    if token.base >= LIKELY:
        return f"a choice that the base finds likely {chance}"
    if token.base >= AS_LIKELY * best:
        return f"a choice that the base finds about as likely as its own {chance}"
    if token.base >= POSSIBLE:
        return f"a choice that the base finds possible {chance}"
    return f"a choice that the base finds unlikely {chance}"


def _what_follows(tokens: Sequence[ExaminedToken], diverges_at: int) -> str:
    """Say whether the base would have gone on like that, wherever it says something new."""
    rest = [tokens[number] for number in fresh(tokens) if number > diverges_at]
    if len(rest) < FEWEST:
        return ""
    typical = exp(sum(log(max(each.base, TINY)) for each in rest) / len(rest))
    chance = f"{percent(typical)} per new token"
    if typical >= FOLLOWED:
        return (
            f"The base could have continued like this ({chance}): different words, "
            "but not a lost thread."
        )
    if typical >= LOST:
        return f"The base finds what comes after surprising ({chance})."
    return f"The base finds what comes after very unlikely ({chance}): a lost thread."


def fresh(tokens: Sequence[ExaminedToken]) -> list[int]:
    """List the tokens that don't end a passage which was said before."""
    texts = [each.text for each in tokens]
    said: set[tuple[str, ...]] = set()
    found = []
    for number in range(len(texts)):
        passage = tuple(texts[max(0, number + 1 - PASSAGE) : number + 1])
        if passage not in said:
            found.append(number)
        if len(passage) == PASSAGE:
            said.add(passage)
    return found


def quoted(text: str) -> str:
    """Return a token's text in quotes, or in words where it can't be seen."""
    if not text:
        return "a part of a character"
    if not text.strip():
        return "a line break" if "\n" in text else "a space"
    return f"“{text.strip()}”"


def percent(probability: float) -> str:
    """Write a probability as people say it."""
    if probability >= 0.995:
        return "over 99 %"
    if probability >= 0.0095:
        return f"{100 * probability:.0f} %"
    return f"{100 * probability:.1f} %" if probability >= 0.00095 else "under 0.1 %"
