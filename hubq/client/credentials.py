"""Which token goes to which Hub, and through which proxy.

A token goes to the Hub that it was made for, or that it was named together with: a saved login
(`hf auth login`) is for huggingface.co, HF_TOKEN is for the Hub that HF_ENDPOINT names beside it,
and for huggingface.co where that isn't set. A `--hub` of another address gets neither. The proxy is
that of the environment, and never one to this machine.
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from hubq.errors import UserError
from hubq.records.vocabulary import PUBLIC_HUB

NAMED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE")  # by the environment
SILENCE = "HF_HUB_DISABLE_IMPLICIT_TOKEN"
PORTS = {"http": 80, "https": 443}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL: what browsers call its origin."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:  # no URL, and so of nobody's origin
        return "", url, None
    return parts.scheme.lower(), (parts.hostname or "").lower(), port


def token_for(url: str) -> str | None:
    """Return the user's own token for the Hub at this address; None where they named none."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN or origin(url) != origin(_home()):
        return None
    return get_token()


def _home() -> str:
    """Return the address of the Hub that the user's own token is for."""
    is_named = any(os.environ.get(name) for name in NAMED)
    return (os.environ.get("HF_ENDPOINT") if is_named else None) or PUBLIC_HUB


def how_to_log_in(url: str) -> str:
    """Say how a user gives a token for the Hub at this address."""
    if origin(url) == origin(PUBLIC_HUB):
        return "hf auth login, or set HF_TOKEN"
    return f"set both HF_ENDPOINT={url} and HF_TOKEN, to a token of that Hub, for the command"


def without_hub(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out of an environment which Hub there is, and any token."""
    about = (*NAMED, SILENCE, "HF_ENDPOINT")
    return {name: value for name, value in environment.items() if name not in about}


def environment_for(hub: str, token: str | None) -> dict[str, str]:
    """Return the environment of a process that talks to this Hub, with this token or with none."""
    values = without_hub(os.environ) | {"HF_ENDPOINT": hub}
    return values | ({SILENCE: "1"} if token is None else {"HF_TOKEN": token})


@contextmanager
def talking_to(hub: str, token: str | None = None) -> Iterator[None]:
    """Let libraries of this process and its children talk to a Hub: with a token or the user's."""
    before = dict(os.environ)
    changed = environment_for(hub, token or token_for(hub))
    try:
        _become(changed)
        yield
    finally:
        _become(before)


def _become(environment: Mapping[str, str]) -> None:
    """Make the environment of this process that one."""
    for name in (*NAMED, SILENCE, "HF_ENDPOINT"):
        os.environ.pop(name, None)
        if name in environment:
            os.environ[name] = environment[name]


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def proxy_of(url: str) -> str | None:
    """Return the proxy for a URL as the environment names it; None: there is none.

    Raises UserError for one that can't be used here.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None:
        return None
    return _usable(proxy if "://" in proxy else f"http://{proxy}")


def _usable(proxy: str) -> str:
    scheme = urlsplit(proxy).scheme.lower()
    if scheme == "socks":  # as many desktops write it
        scheme, proxy = "socks5", "socks5" + proxy[len("socks") :]
    if scheme not in ("http", "https", "socks5", "socks5h"):
        raise UserError(
            f"the environment names a {scheme} proxy, which can't be used.\n"
            "Set HTTPS_PROXY (or ALL_PROXY) to http://..., https://... or socks5://..., or unset "
            "it"
        )
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise UserError(
            "the environment names a SOCKS proxy, which needs one more package: pip install "
            "socksio\n"
            "Or set HTTPS_PROXY to an http:// proxy and unset ALL_PROXY"
        )
    return proxy


def refuse_unusable() -> None:
    """Raise UserError for a proxy of the environment that libraries below hubq would fail on."""
    for scheme in ("http", "https", "all"):
        if proxy := getproxies().get(scheme):
            _usable(proxy if "://" in proxy else f"http://{proxy}")


def go_direct_to_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Tell all that reads NO_PROXY (hf_xet, gradio, what we start) to leave loopback alone."""
    known = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [each.strip() for each in known.split(",") if each.strip()]
    missing = [each for each in LOOPBACK if each not in hosts]
    if missing and "*" not in hosts:
        environment["NO_PROXY"] = environment["no_proxy"] = ",".join([*hosts, *missing])
