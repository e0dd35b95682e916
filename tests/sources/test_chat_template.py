"""Chat templates are programs of strangers: what they make of a conversation, and within limits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from hubq.errors import UserError
from hubq.sources.chat_template import SECONDS, ChatTemplateError, laid_out, template_of
from hubq.sources.tokenizer import tokenizer_of

ASKED = [{"role": "user", "content": "Hello"}]
LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return tokenizer_of(folder)


def with_template(tokenizer: Any, template: Any) -> Any:
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize(
    "template",
    [
        None,  # the model's own
        "{{ bos_token }}{% for m in messages %}{{ m.content | tojson }}{% endfor %}",
        "{% generation %}{{ messages[-1].content.strip() }}{% endgeneration %}",
        "{%- set ns = namespace(n=0) -%}\n  {% for m in messages %}\n{% if loop.first %}"
        "{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.content }}{% endfor %}",
    ],
)
def test_a_conversation_is_laid_out_as_transformers_does(
    template: str | None, prompted: bool, tokenizer: Any
) -> None:
    messages = [*ASKED, {"role": "assistant", "content": "Ünder ⚘ 🦙 </s>\u2028 way"}]
    if template:
        tokenizer.chat_template = template

    found = laid_out(tokenizer, messages, prompted=prompted)

    assert found == tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=prompted,
        continue_final_message=not prompted,
    )


def test_a_finished_conversation_ends_behind_its_last_message(tokenizer: Any) -> None:
    messages = [*ASKED, {"role": "assistant", "content": "Hi"}]

    found = laid_out(tokenizer, messages, finished=True)

    assert found == tokenizer.apply_chat_template(messages, tokenize=False)
    assert found == "user: Hello\nassistant: Hi\n"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ 'a' * 10**10 }}", "needs more than 1024 MB of memory"),
        ("{{ 'a'.ljust(10**10) }}", "needs more than 1024 MB of memory"),
        ("{{ '%9999999999d' % 1 }}", "needs more than 1024 MB of memory"),
        ("{{ [0] * 10**10 }}", "needs more than 1024 MB of memory"),
        ("{{ 'a' * 10**7 }}", "turns it into 10,000,000 characters"),
        ("{% for i in range(10**9) %}x{% endfor %}", "Range too big"),
        ("{{ messages[0].content.nothing.more }}", "has no attribute 'nothing'"),
        ("{{ 1 / 0 }}", "says 'ZeroDivisionError: division by zero'"),
        ("{{ 'a' + 1 }}", "says 'TypeError"),
        ("{{ messages[0]['tools'][0] }}", "has no attribute"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "says 'RecursionError"),
        ("{{ '{0.__class__.__mro__}'.format(1) }}", "unsafe"),
        ("{% if %}", 'says "Expected an expression'),
        ("{{ raise_exception('\x1b[2J no') }}", r"says '\\x1b\[2J no'"),
        ("(" * 3 + "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}", "its chat template"),
        ("{% include '/etc/passwd' %}", "its chat template says"),
    ],
)
def test_what_goes_wrong_in_a_template_is_said(template: str, says: str, tokenizer: Any) -> None:
    with pytest.raises(ChatTemplateError, match=says):
        laid_out(with_template(tokenizer, template), ASKED)


# Over 1 s: 2 to 3 seconds of the processor: what the limit is.
def test_a_template_that_does_not_end_is_ended(tokenizer: Any) -> None:
    with pytest.raises(ChatTemplateError, match=f"ran for more than {SECONDS} seconds"):
        laid_out(with_template(tokenizer, LOOPS), ASKED)

    assert laid_out(with_template(tokenizer, "{{ messages[0].content }}"), ASKED) == "Hello"


def test_each_thread_gets_its_own_answer(tokenizer: Any) -> None:
    template_of(with_template(tokenizer, "{{ messages[0].content }}"))
    found: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        asked = [{"role": "user", "content": str(number)}]
        found[number] = [laid_out(tokenizer, asked) for _ in range(20)]

    threads = [Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {number: [str(number)] * 20 for number in range(4)}


def test_advice_about_the_system_prompt_is_given_where_there_is_one(tokenizer: Any) -> None:
    with_template(tokenizer, "{{ raise_exception('no system role') }}")
    messages = [{"role": "system", "content": "Be kind."}, *ASKED]

    with pytest.raises(ChatTemplateError, match="Try without a system prompt"):
        laid_out(tokenizer, messages)
    with pytest.raises(ChatTemplateError) as refused:
        laid_out(tokenizer, ASKED)

    assert "system prompt" not in str(refused.value)


def test_several_templates_without_a_default_are_named(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"several chat templates \(rag, tools\)"):
        laid_out(with_template(tokenizer, {"tools": "a", "rag": "b"}), ASKED)


@pytest.mark.parametrize("template", [3, ["x"], True])
def test_a_template_that_is_no_text_is_refused(template: object, tokenizer: Any) -> None:
    with pytest.raises(UserError, match="is not a string; remove it"):
        template_of(with_template(tokenizer, template))


PARTS = (  # as those of models that see: a text that is no list of parts is passed over
    "{% for m in messages %}{{ m.role }}: {% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (PARTS, "user: Hello"),
        ("{{ messages[0].content[0]['text'] }}", "Hello"),
        ("{{ messages[0].content | upper }}", "HELLO"),
        ("nothing", "nothing"),
    ],
)
def test_a_text_that_a_template_wants_in_parts_is_given_so(
    template: str, said: str, tokenizer: Any
) -> None:
    assert laid_out(with_template(tokenizer, template), ASKED) == said


def test_what_a_template_says_of_texts_is_said_though_parts_fail_too(tokenizer: Any) -> None:
    template = "{{ raise_exception('no ' ~ messages[0].content[0]) }}"

    with pytest.raises(ChatTemplateError, match="no H"):
        laid_out(with_template(tokenizer, template), ASKED)
