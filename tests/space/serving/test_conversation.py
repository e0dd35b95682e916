from pathlib import Path

from serving.conversation import begin, is_greedy
from serving.messages import Failed, Finished, Model, Prompt, Request, Settings, Token
from serving.streams import Side

REQUEST = Request(model=Model(folder=Path("/nowhere")), title="one", messages=())
GREEDY = Settings()


def answered(text: str, settings: Settings = GREEDY) -> Side:
    side = Side("one")
    side.take(REQUEST.model_copy(update={"settings": settings}))
    side.take(Prompt(ids=(1, 2), vocabulary="v"))
    side.take(Token(id=3, text=text, logprob=-0.1, alternatives=()))
    side.take(Finished(reason="length"))
    return side


def failed() -> Side:
    side = Side("other")
    side.take(Failed(text="it died"))
    return side


def test_each_side_reads_its_own_turns() -> None:
    chat = begin(["one", "other"], "Be brief.")

    chat = chat.with_turn("Hello?", GREEDY, [answered("Hi"), answered("Ho")])

    said = [each.content for each in chat.messages(1, "Again?")]
    assert said == ["Be brief.", "Hello?", "Ho", "Again?"]


def test_a_picture_belongs_to_the_first_prompt_of_a_chat_that_knows_its_hash_alone() -> None:
    chat = begin(["one"], "Be brief.", picture="digest")
    first = chat.messages(0, "What is it?", "iVBO")

    seen = Side("one")
    request = REQUEST.model_copy(update={"messages": first})
    seen.take(request)
    for event in answered("A llama").events:
        seen.take(event)
    chat = chat.with_turn("What is it?", GREEDY, [seen])

    told = [(each.content, each.picture) for each in chat.messages(0, "Sure?", "iVBO")]
    assert told == [
        ("Be brief.", None),
        ("What is it?", "iVBO"),
        ("A llama", None),
        ("Sure?", None),
    ]
    assert request.pictures == ("iVBO",)
    assert "iVBO" not in repr(chat)  # nor is there an answer that a base could examine


def test_a_turn_that_failed_was_never_said() -> None:
    chat = begin(["one", "other"], "")

    chat = chat.with_turn("Hello?", GREEDY, [answered("Hi"), failed()])

    assert [each.content for each in chat.messages(1, "Again?")] == ["Again?"]


def test_other_models_another_system_prompt_or_picture_begin_anew() -> None:
    chat = begin(["one", "other"], "Be brief.")

    claims = [
        chat.goes_on(["one", "other"], "Be brief."),
        chat.goes_on(["other", "one"], "Be brief."),
        chat.goes_on(["one", "other"], ""),
        chat.goes_on(["one", "other"], "Be brief.", "digest of a picture"),
    ]

    assert claims == [True, False, False, False]


def test_the_last_turn_can_be_taken_back() -> None:
    chat = begin(["one"], "").with_turn("Hello?", GREEDY, [answered("Hi")])

    assert chat.without_last().prompts == []


def test_only_greedy_answers_are_kept_token_by_token() -> None:
    sampled = Settings(temperature=1.0)

    chat = begin(["one", "other"], "").with_turn(
        "Hello?", GREEDY, [answered("Hi"), answered("Ho", sampled)]
    )

    assert [line.turns[0].answer is not None for line in chat.lines] == [True, False]
    assert not is_greedy(Settings(repetition_penalty=1.2))


def test_only_the_last_turn_is_kept_token_by_token() -> None:
    chat = begin(["one"], "").with_turn("Hello?", GREEDY, [answered("Hi")])

    chat = chat.with_turn("Again?", GREEDY, [answered("Ho")])

    earlier, last = chat.lines[0].turns
    assert (earlier.text, earlier.answer) == ("Hi", None)
    assert last.answer is not None
