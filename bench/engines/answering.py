"""What runs in an engine's own environment: a line of JSON asks, a line of JSON answers.

It imports the standard library alone, and the file beside it the engine's library, so that nothing
of hubq's need fit that environment. It says its version first: {"version": "0.32.0"}. Then, asked
and answered:
    {"model": PATH, "dtype": "bfloat16", "prompts": [[1, 5, 9], ...], "new": 32}
    -> {"written": [[3, ...], ...], "scored": [[-5.2, ...], ...]}
`scored` are the log-likelihoods, in nats, of each prompt's tokens but the first. What an engine
refuses is answered as {"refused": "ValueError: ..."}, and so is a crash. Each model is answered in
a process forked for it: the library is imported once, and nothing of one model reaches the next.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def serve(answer: Answer, version: str) -> None:
    """Answer each line of standard input; what libraries print goes to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    print(json.dumps({"version": version}), file=out, flush=True)
    for line in sys.stdin:
        print(_apart(answer, json.loads(line)), file=out, flush=True)


def _apart(answer: Answer, asked: dict[str, Any]) -> str:
    """Answer in a process of its own; return the line."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            pipe.write(json.dumps(_answered(answer, asked)))
        os._exit(0)  # what an engine's threads still do is of no interest
    os.close(write)
    with os.fdopen(read) as pipe:
        line = pipe.read()
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return line or json.dumps({"refused": f"the process ended by {how}"})


def _answered(answer: Answer, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        return answer(asked)
    except BaseException as error:  # whatever a stranger's library raises is its answer
        traceback.print_exc()
        return {"refused": f"{type(error).__name__}: {error}"}
