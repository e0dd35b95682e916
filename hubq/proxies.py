"""Which proxy a request goes through: that of the environment, and never one to this machine."""

import os
from collections.abc import MutableMapping
from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from hubq.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
            f"the environment names a proxy of the kind {scheme}, which can't be used.\n"
            "Set HTTPS_PROXY (or ALL_PROXY) to http://..., https://... or socks5://..., or unset it"
        )
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise UserError(
            "the environment names a SOCKS proxy, for which a package is missing: "
            "pip install socksio\n"
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
