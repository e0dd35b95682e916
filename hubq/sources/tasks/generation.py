"""How generated text is scored against a reference: ROUGE for summaries, BLEU for Chinese."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

ROUGE = ("rouge1", "rouge2", "rougeL")


def xsum(doc: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """Score the summary of one document of XSum."""
    return rouge(doc["summary"], results[0])


def cnn_dailymail(doc: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """Score the summary of one article of CNN/DailyMail."""
    return rouge(doc["highlights"], results[0])


def rouge(reference: str, summary: str) -> dict[str, float]:
    """Return the F measures of ROUGE-1, 2 and L on stemmed words, each in [0, 1]."""
    found = _scorer().score(reference, summary)
    return {name: float(found[name].fmeasure) for name in ROUGE}


@cache
def _scorer() -> Any:  # noqa: ANN401 - rouge_score carries no types
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE), use_stemmer=True)


def chinese_bleu(pairs: Sequence[Sequence[str]]) -> float:
    """Return corpus BLEU in [0, 100] of (reference, translation) pairs, by Chinese characters."""
    from sacrebleu import corpus_bleu

    references, translations = zip(*pairs, strict=True)
    return float(corpus_bleu(translations, [references], tokenize="zh").score)
