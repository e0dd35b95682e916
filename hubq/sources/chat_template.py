"""Lay conversations out as a model's chat template says: a stranger's program, run within limits.

Templates are Jinja, which transformers runs in a sandbox: they can't reach files or code, but they
can loop for ever or fill the memory in one multiplication. So they run in a process of their own
with a limit on both, which is kept for the next conversation and replaced when a template kills
it. The limit on time counts the processor's seconds: a busy machine makes no template fail.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import IO, Any

from hubq.errors import UserError

SECONDS = 2  # of the processor, for one conversation; real templates take some milliseconds
MEMORY = 1 << 30  # bytes of the whole process
LONGEST = 1 << 23  # characters that a template may make of a conversation
SHOWN = 300  # characters of what a template complains about

Message = Mapping[str, Any]  # role and content: a text, or a list of parts, texts and pictures


class ChatTemplateError(UserError):
    """A chat template that fails on a conversation, refuses it, or runs out of a limit."""


def template_of(tokenizer: Any) -> str | None:  # noqa: ANN401 - transformers carries no types
    """Return the chat template's text, or None where there is none.

    Raises UserError where there are several without a default, and for what is no text.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        names = ", ".join(sorted(map(str, template)))
        template = template.get("default")
        if template is None:
            raise UserError(
                f"{tokenizer.name_or_path} has several chat templates ({names}) and none is called "
                "default; copy the one to use to its chat_template.jinja"
            )
    if template is not None and not isinstance(template, str):
        raise UserError(
            f"{tokenizer.name_or_path}: chat_template in tokenizer_config.json is not a string; "
            "remove it, or move the template to chat_template.jinja"
        )
    return template


def laid_out(
    tokenizer: Any,  # noqa: ANN401 - see above
    messages: Sequence[Message],
    *,
    prompted: bool = True,
    finished: bool = False,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the text that the tokenizer's template makes of messages, as transformers would.

    It ends where the answer is to begin, or, not prompted, in the midst of the last message; or,
    finished, behind the last message.
    `variables` are further ones for the template. Raises ChatTemplateError where it fails.
    """
    template = template_of(tokenizer)
    if template is None:
        raise UserError(f"{tokenizer.name_or_path} has no chat template")
    request = {
        **tokenizer.special_tokens_map,
        **variables,
        "conversations": [[dict(message) for message in messages]],
        "chat_template": template,
        "add_generation_prompt": prompted and not finished,
        "continue_final_message": not prompted and not finished,
    }
    ask = _renderer(os.getpid()).ask
    answer = ask(request)
    if _lacks(answer, messages):  # templates of models that see may skip what is not in parts
        answer = _best(answer, ask({**request, "conversations": [in_parts(messages)]}), messages)
    if "text" in answer:
        return str(answer["text"])
    without = " Try without a system prompt." if _has_system(messages) else ""
    raise ChatTemplateError(
        f"{tokenizer.name_or_path} does not accept this conversation: its chat template "
        f"{answer['failed']}.{without}"
    )


def in_parts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Give each message its content as a list of parts, as templates of models that see want it."""
    return [
        {**each, "content": [_part(each["content"])]}
        if isinstance(each["content"], str)
        else dict(each)
        for each in messages
    ]


def with_places(messages: Sequence[Message], pictures: int) -> list[dict[str, Any]]:
    """Write messages as templates of models that see read them, pictures before the first question.

    Each content is a list of parts, of type image or text.
    """
    first = next((n for n, each in enumerate(messages) if each["role"] == "user"), 0)
    found = in_parts(messages)
    for number, each in enumerate(found):
        if number == first:
            each["content"] = [*({"type": "image"} for _ in range(pictures)), *each["content"]]
    return found


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _lacks(answer: Mapping[str, str], messages: Sequence[Message]) -> bool:
    """Tell whether what the last message says, a text, is missing in what a template made."""
    said = messages[-1]["content"] if messages else None
    return isinstance(said, str) and said.strip() not in answer.get("text", "")


def _best(
    answer: dict[str, str], by_parts: dict[str, str], messages: Sequence[Message]
) -> dict[str, str]:
    """Choose the parts' layout where it says the last message, and spells no parts out."""
    found = by_parts.get("text", "")
    spelled = "'type'" in found or '"type"' in found
    return answer if spelled or _lacks(by_parts, messages) else by_parts


def _has_system(messages: Sequence[Message]) -> bool:
    return any(message["role"] == "system" for message in messages)


class Renderer:
    """The process in which templates run; one conversation at a time, whoever asks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Mapping[str, Any]) -> dict[str, str]:
        """Return the `text`, or why it `failed`."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._forget()
                self._process = _start()
            try:
                line = _exchange(self._process, json.dumps(request).encode() + b"\n")
            except BaseException:  # such as Ctrl-C: the answer to come is not the next one's
                self._process.kill()
                self._forget()
                raise
            if line:
                answer: dict[str, str] = json.loads(line)
                return answer
            return {"failed": _end_of(self._forget())}

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._forget()

    def _forget(self) -> int:
        """Let the process end, if there is one, and return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with process:  # closes its pipes, at which it ends
            pass
        return process.returncode


@cache
def _renderer(process: int) -> Renderer:
    """Return this process's own: a fork must not share its parent's pipes."""
    renderer = Renderer()
    atexit.register(renderer.close)
    return renderer


def _start() -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        # -P: a module in the user's folder that is named like a library must not be imported.
        [sys.executable, "-P", "-m", "hubq.sources.chat_template"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **own, "TRANSFORMERS_VERBOSITY": "error"},
        start_new_session=True,  # Ctrl-C is for the parent
    )


def _exchange(process: subprocess.Popen[bytes], line: bytes) -> bytes:
    """Send a line and return the one that comes back, empty where the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it has ended, as what it says shows
        process.stdin.write(line)
        process.stdin.flush()
    return process.stdout.readline()


def _end_of(code: int) -> str:
    """Say what a template did that ended its process."""
    if code == -signal.SIGXCPU:
        return f"ran for more than {SECONDS} seconds"
    return f"ended the process that it ran in (code {code})"


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests, a JSON object a line, until there are no more."""
    import resource  # Windows has none

    from transformers.utils.chat_template_utils import render_jinja_template

    _limit(resource.RLIMIT_AS, MEMORY)
    for line in requests:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + SECONDS)
        answer = _rendered(render_jinja_template, json.loads(line))
        print(json.dumps(answer), file=answers, flush=True)


def _limit(kind: int, value: int) -> None:
    """Lower a limit of this process; one that is lower already stays."""
    import resource  # Windows has none

    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _rendered(render: Any, request: Mapping[str, Any]) -> dict[str, str]:  # noqa: ANN401
    """Run a template and say how it went."""
    from jinja2 import TemplateError

    try:
        text = render(**request)[0][0]
    except MemoryError:
        return {"failed": f"needs more than {MEMORY >> 20} MB of memory"}
    except TemplateError as error:
        return {"failed": f"says {(str(error) or type(error).__name__)[:SHOWN]!r}"}
    # A template is a program: it can raise whatever a program can.
    except Exception as error:
        return {"failed": f"says {f'{type(error).__name__}: {error}'[:SHOWN]!r}"}
    if len(text) > LONGEST:
        return {"failed": f"turns it into {len(text):,} characters, more than {LONGEST:,}"}
    return {"text": text}


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
