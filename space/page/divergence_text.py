"""What an examined answer shows, in a sentence or two for people who never heard of logits."""

import re
from collections.abc import Sequence
from math import exp, log

from serving.token_divergence import Examined, Seen

LIKELY, POSSIBLE = 0.2, 0.05  # from these probabilities on a choice is called so
AS_LIKELY = 0.5  # of the probability of the base's own choice
# Geometric means of the probabilities of what comes after. SmolLM2-135M rounded to nearest had 0.19
# to 0.35 in four answers at 4 bits, 0.03 to 0.18 at 3 and nothing at 2; itself 0.37 to 0.53.
FOLLOWED, LOST = 0.25, 0.12
FEWEST = 5  # tokens after the parting that say something about the thread
TINY = 1e-9  # what stands for a probability of nothing
PASSAGE = 4  # tokens that were said before in this order are a repetition, which any model likes
OFTEN = 0.4  # of all tokens: from there on repetition is told


def summary(examined: Examined) -> str:
    """Say where an answer parts from the base, how bad the base finds that, and what follows."""
    sentences = [_beginning(examined)]
    if examined.parting is not None:
        sentences.append(_what_follows(examined.tokens, examined.parting))
    repeated = 1 - len(fresh(examined.tokens)) / len(examined.tokens)
    if repeated >= OFTEN:
        sentences.append(f"{percent(repeated)} of the answer repeats what it said before.")
    if examined.aligned == "text":
        sentences.append(
            f"The two cut text into different tokens; shown is how {examined.base} cuts it."
        )
    return " ".join(filter(None, sentences))


def _beginning(examined: Examined) -> str:
    count = len(examined.tokens)
    if examined.parting is None:
        return f"The same as {examined.base} for all of its {_count(count)}."
    token = examined.tokens[examined.parting]
    same = f"The same for {_count(examined.parting)}; then" if examined.parting else "At once"
    return f"{same} {_choice(examined, token)}: {_liking(token)}."


def _count(tokens: int) -> str:
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def _choice(examined: Examined, token: Seen) -> str:
    """Say what the model chose and what the base would have."""
    best = token.alternatives[0]
    own, base = _words(examined, token.text, best.text)
    if token.ends:
        return f"{examined.title} ends where {examined.base} goes on with {quoted(base)}"
    if best.ends:
        return f"{examined.title} goes on with {quoted(own)} where {examined.base} ends"
    return f"{examined.title} says {quoted(own)} where {examined.base} says {quoted(base)}"


def _words(examined: Examined, own: str, base: str) -> tuple[str, str]:
    """Return the two choices as words: with the letters before them that they go on from."""
    if own.strip() == base.strip():  # they differ in a space, so that must be seen
        return own.replace(" ", "␣"), base.replace(" ", "␣")
    assert examined.parting is not None, "only an answer that parts has a choice"
    before = "".join(each.text for each in examined.tokens[: examined.parting])
    begun = re.search(r"\w*$", before)
    word = begun.group() if begun else ""
    whole = [word + each if each[:1].isalnum() else each for each in (own, base)]
    return whole[0], whole[1]


def _liking(token: Seen) -> str:
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


def _what_follows(tokens: Sequence[Seen], parting: int) -> str:
    """Say whether the base would have gone on like that, wherever it says something new."""
    rest = [tokens[number] for number in fresh(tokens) if number > parting]
    if len(rest) < FEWEST:
        return ""
    typical = exp(sum(log(max(each.base, TINY)) for each in rest) / len(rest))
    chance = f"{percent(typical)} a new token"
    if typical >= FOLLOWED:
        return f"The base could have gone on like this ({chance}): other words, not a lost thread."
    if typical >= LOST:
        return f"The base follows what comes after with surprise ({chance})."
    return f"The base does not follow what comes after ({chance}): a lost thread."


def fresh(tokens: Sequence[Seen]) -> list[int]:
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
