"""How sequences are divided, and laid into rows: every distinct token once, little padding."""

import random
from collections.abc import Iterable

import pytest

from hubq.stages.evaluate.inference.batching import LONG, Batch, batches
from hubq.stages.evaluate.inference.prefixes import LARGE, Part, Sequence, Tree, parts

ANY = 1 << 30


def tokens(seed: object, count: int) -> list[int]:
    return random.Random(str(seed)).choices(range(1000), k=count)


def asked(*pairs: tuple[list[int], list[int]]) -> list[Sequence]:
    return [
        Sequence((context + continuation)[:-1], continuation, number)
        for number, (context, continuation) in enumerate(pairs)
    ]


def questions(begin: list[int], count: int, length: int = 30) -> list[Sequence]:
    """Return four choices of three tokens for each of several questions."""
    pairs = []
    for number in range(count):
        context = begin + tokens(number, length)
        pairs += [(context, tokens((number, choice), 3)) for choice in range(4)]
    return asked(*pairs)


def run(found: Iterable[Part]) -> int:
    """Count the tokens that are run."""
    return sum(len(part.prefix) + sum(tree.size for tree in part.trees) for part in found)


def distinct(sequences: Iterable[Sequence]) -> int:
    return len(
        {tuple(each.inputs[: at + 1]) for each in sequences for at in range(len(each.inputs))}
    )


def test_choices_run_their_question_once() -> None:
    sequences = questions([], count=1)

    (part,) = parts(sequences, ANY)

    assert run([part]) == distinct(sequences) == 30 + 4 * 2


def test_single_tokens_after_one_context_are_one_chain() -> None:
    context = tokens("context", 20)

    (part,) = parts(asked((context, [1]), (context, [2]), (context, [3])), ANY)

    (tree,) = part.trees
    assert tree.is_chain
    assert tree.size == 20


def test_what_many_questions_share_is_one_stem() -> None:
    examples = tokens("examples", 400)
    sequences = questions(examples, count=50)

    found = list(parts(sequences, ANY))

    assert [part.prefix for part in found if part.prefix] == [examples]
    assert run(found) == distinct(sequences)


def test_stems_of_stems_begin_as_the_one_before() -> None:
    whole = tokens("whole", 800)
    sequences = questions(whole[:200], 30) + questions(whole[:500], 30) + questions(whole, 30)
    ran: list[int] = []

    for part in parts(sequences, ANY):
        ran[part.kept :] = part.prefix
        for tree in part.trees:
            assert all(each.inputs[: part.depth] == ran for each in tree.sequences)


def test_scored_tokens_are_never_in_a_stem() -> None:
    answer = tokens("answer", 600)
    sequences = asked(*(([7], answer + tokens(number, 20)) for number in range(40)))

    found = list(parts(sequences, ANY))

    assert all(not part.prefix for part in found)


@pytest.mark.parametrize("longest", [0, 29, ANY])
def test_every_sequence_is_in_one_tree(longest: int) -> None:
    sequences = questions(tokens("examples", 300), 20) + questions([], 20)

    found = parts(sequences, longest)

    inside = [each for part in found for tree in part.trees for each in tree.sequences]
    assert sorted(inside) == sorted(sequences)


def test_sequences_that_are_too_long_for_a_mask_share_with_none_that_branches_off() -> None:
    sequences = questions(tokens("examples", 300), count=20)

    (part,) = parts(sequences, longest=300)

    assert not part.prefix
    assert all(tree.is_chain for tree in part.trees)


def test_questions_that_share_little_are_not_one_large_tree() -> None:
    sequences = questions([1, 2], count=20)

    (part,) = parts(sequences, ANY)

    assert len(part.trees) > 5


def test_nothing_is_divided_into_no_trees() -> None:
    assert [part.trees for part in parts([], ANY)] == [[]]


def trees(sequences: list[Sequence]) -> list[Tree]:
    (part,) = parts(sequences, ANY)
    return part.trees


def rows(given: list[Tree], budget: int = 2048) -> list[Batch]:
    return list(batches(given, 0, ANY, budget))


def test_batches_are_hardly_larger_than_what_they_hold() -> None:
    given = trees([each for n in range(300) for each in questions([n], 1, length=20 + n % 90)])

    found = rows(given)

    assert sum(batch.ids.numel() for batch in found) < 1.05 * sum(tree.size for tree in given)
    assert max(batch.ids.numel() for batch in found) <= 2048


def test_each_token_sees_its_own_path() -> None:
    context, first, second = tokens("context", 10), tokens("first", 4), tokens("second", 4)
    (batch,) = rows(trees(asked((context, first), (context, second), (tokens("other", 9), [1]))))

    for place, target, number in batch.scored:
        assert batch.sees is not None
        seen = batch.ids[0][batch.sees[0, 0, place]].tolist()
        expected = [context + first, context + second, [*tokens("other", 9), 1]][number]
        at = int(batch.positions[0, place])  # type: ignore[index]
        assert seen == expected[: at + 1]
        assert target == expected[at + 1]


def test_padding_sees_itself_alone() -> None:
    lengths = (60, 50, 40)  # the last finds no room in the first one's row
    (batch,) = rows(trees(asked(*((tokens(length, length), [1]) for length in lengths))))

    assert batch.ids.shape == (2, 110)
    assert batch.sees is not None
    assert batch.sees[1, 0, 40:].sum(-1).eq(1).all()


def test_long_chains_of_similar_length_share_a_batch_without_a_mask() -> None:
    lengths = [LONG + 400, LONG + 1, LONG + 399, LONG + 2]
    given = trees(asked(*((tokens(length, length), [1]) for length in lengths)))

    found = rows(given, budget=1000)

    assert [batch.ids.shape for batch in found] == [(2, LONG + 400), (2, LONG + 2)]
    assert all(batch.sees is None for batch in found)


@pytest.mark.parametrize(("depth", "masked"), [(0, False), (100, True)])
def test_behind_a_stem_only_very_long_chains_are_worth_a_row(depth: int, masked: bool) -> None:
    sequence = Sequence(tokens("one", depth + LONG + 1), [1], 0)
    tree = Tree([sequence], [depth], LONG + 1)

    (batch,) = batches([tree], depth, ANY, 2048)

    assert (batch.sees is not None) == masked


def test_a_chain_longer_than_a_batch_is_run_alone() -> None:
    (batch,) = rows(trees(asked((tokens("long", 5 * LARGE), [1]))))

    assert batch.ids.shape == (1, 5 * LARGE)
