"""transformers knows the format as soon as it and hubq are imported, in either order."""

import subprocess
import sys
from types import ModuleType

from transformers.quantizers import auto

from hubq.formats.layouts.carried_loader import loader_source
from hubq.runtime.quantizer import HubqQuantizer, register

KNOWN = "from transformers.quantizers import auto; print('hubq' in auto.AUTO_QUANTIZER_MAPPING)"


def printed(code: str) -> str:
    """Return what a new process prints."""
    run = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(run, text=True, check=True, capture_output=True).stdout.strip()


def test_importing_hubq_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, hubq; print({'torch', 'transformers'} & sys.modules.keys())"

    assert printed(code) == "set()"


# Takes some seconds: a new process imports torch and transformers' quantizers.
def test_hubq_may_be_imported_before_transformers() -> None:
    assert printed(f"import hubq; {KNOWN}") == "True"


# Takes some seconds, as above.
def test_hubq_may_be_imported_after_transformers() -> None:
    assert printed(f"import transformers.quantizers, hubq; {KNOWN}") == "True"


# Takes some seconds, as above.
def test_the_config_may_be_imported_before_all_else() -> None:
    assert printed(f"from hubq import HubqConfig; {KNOWN}") == "True"


def test_the_watch_ends_when_it_has_seen_the_import() -> None:
    assert not [each for each in sys.meta_path if type(each).__module__.startswith("hubq.")]


def test_registering_twice_changes_nothing() -> None:
    register()

    assert auto.AUTO_QUANTIZER_MAPPING["hubq"] is HubqQuantizer


def test_the_file_that_a_repo_carries_leaves_hubq_in_its_place() -> None:
    exec(compile(loader_source(), "hubq_loader.py", "exec"), ModuleType("hubq_loader").__dict__)

    assert auto.AUTO_QUANTIZER_MAPPING["hubq"] is HubqQuantizer
