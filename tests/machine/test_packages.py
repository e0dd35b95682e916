"""What a package requires as installed, by the metadata that lies beside it."""

from pathlib import Path

import pytest

from hubq.machine.packages import installed


def put(folder: Path, name: str, version: str, *requires: str, of_sources: bool = False) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {each}" for each in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    if of_sources:
        (info / "direct_url.json").write_text('{"url": "file:///somewhere", "dir_info": {}}')


@pytest.mark.parametrize("of_sources", [True, False])
def test_all_that_is_required_is_found_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_sources: bool
) -> None:
    needs = ("Beta_Two[fast]>=1", 'gamma; python_version < "3"', 'delta; extra == "dev"')
    put(tmp_path, f"alpha-{of_sources}".lower(), "1.5", *needs, of_sources=of_sources)
    put(tmp_path, "beta-two", "2.0+cpu", 'epsilon; extra == "fast"', f"alpha-{of_sources}".lower())
    for other in ("gamma", "delta", "epsilon", "zeta"):
        put(tmp_path, other, "3")
    monkeypatch.syspath_prepend(tmp_path)

    found = installed(f"alpha-{of_sources}".lower())

    own = {} if of_sources else {"alpha-false": "1.5"}
    assert found == {**own, "beta-two": "2.0+cpu", "epsilon": "3"}
