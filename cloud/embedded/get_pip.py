"""pip, from its wheel, into the virtual environment of the Python that runs this.

Bare Debian has `venv` but not `ensurepip`. The index, certificates and proxy are those that pip itself is
configured to use; what comes is one pinned wheel, checked by its hash, so the index need not be trusted.
"""

import configparser
import hashlib
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

WHEEL = "pip-26.3-py3-none-any.whl"
SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"


def pip_setting(name: str, default: str | None = None) -> str | None:
    """What pip is told: the environment first, then its configuration files, the user's before the machine's."""
    from_environment = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if from_environment:
        return from_environment
    folders = [Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pip", Path.home() / ".pip"]
    folders += [Path(folder) / "pip" for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")] + [
        Path("/etc")
    ]
    files = [Path(os.environ["PIP_CONFIG_FILE"])] if os.environ.get("PIP_CONFIG_FILE") else []
    for file in files + [folder / "pip.conf" for folder in folders]:
        config = configparser.RawConfigParser()
        try:
            config.read(file)
        except (OSError, configparser.Error):
            continue
        for section in ("install", "global"):
            if config.has_option(section, name):
                return config.get(section, name)
    return default


def opener_as_pip() -> urllib.request.OpenerDirector:
    """An opener with pip's certificates and proxy."""
    handlers: list[urllib.request.BaseHandler] = []
    certificates = pip_setting("cert") or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=certificates)))
    if proxy := pip_setting("proxy"):
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    return urllib.request.build_opener(*handlers)


def wheel_address(page: str, page_url: str) -> str:
    """The wheel's address on an index page (PEP 503). Raises LookupError when the index has not got it."""
    for link in re.findall(r"""href\s*=\s*["']([^"']+)["']""", page):
        address: str = urllib.parse.urljoin(page_url, link.replace("&amp;", "&"))
        if urllib.parse.urlsplit(address).path.endswith("/" + WHEEL):
            return address
    raise LookupError(f"{page_url} does not offer {WHEEL}")


def main() -> None:
    index = (pip_setting("index-url") or "https://pypi.org/simple").rstrip("/")
    opener = opener_as_pip()
    page_url = f"{index}/pip/"
    with opener.open(page_url, timeout=30) as answer:
        page = answer.read().decode()
    with opener.open(wheel_address(page, page_url), timeout=120) as answer:
        wheel = answer.read()
    if hashlib.sha256(wheel).hexdigest() != SHA256:
        sys.exit(f"{WHEEL} from {index} is not the one that was pinned: its hash differs")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WHEEL
        file.write_bytes(wheel)
        subprocess.run([sys.executable, f"{file}/pip", "install", "--no-index", "--no-deps", str(file)], check=True)


if __name__ == "__main__":
    main()
