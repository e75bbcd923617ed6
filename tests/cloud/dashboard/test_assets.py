"""Third-party files: only what is pinned gets in, and it gets in without the network when it is cached."""

import base64
import dataclasses
import hashlib
import io
import tarfile
import urllib.request

import pytest
from django.core.management import CommandError, call_command

from cloud.pages import assets


def tarball_with(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/dist/thing.js")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def package():
    content = tarball_with(b"alert(1)")
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    return assets.Package("@scope/thing", "1.2.3", f"sha512-{digest}", {"dist/thing.js": "thing.js"}), content


@pytest.fixture(autouse=True)
def folders(settings, monkeypatch, tmp_path):
    settings.STATIC_ROOT = tmp_path / "static"
    monkeypatch.setenv("PILEUS_HOME", str(tmp_path))


def serve(monkeypatch, content):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_it_comes_from_the_registry_that_npm_would_use(package, monkeypatch, settings):
    monkeypatch.setenv("npm_config_registry", "http://registry.example/npm/")
    asked = serve(monkeypatch, package[1])
    assets.lay_out(package[0])
    assert asked == ["http://registry.example/npm/@scope/thing/-/thing-1.2.3.tgz"]
    assert (settings.STATIC_ROOT / "vendor/scope-thing-1.2.3/thing.js").read_bytes() == b"alert(1)"
    assert assets.is_laid_out(package[0])


def test_other_bytes_than_the_pinned_ones_stay_outside(package, monkeypatch, settings):
    serve(monkeypatch, tarball_with(b"evil()"))
    with pytest.raises(assets.NotFetched, match="hash differs"):
        assets.lay_out(package[0])
    assert not assets.is_laid_out(package[0])
    assert not list(assets.cache().glob("*"))


def test_what_is_cached_needs_no_network(package, monkeypatch):
    serve(monkeypatch, package[1])
    assets.lay_out(package[0])
    asked = serve(monkeypatch, b"")
    assert assets.extract(package[0]) == {"thing.js": b"alert(1)"}
    assert asked == []


def test_a_cache_that_was_tampered_with_is_fetched_anew(package, monkeypatch):
    kept = assets.cache() / f"{package[0].folder}.tgz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"evil")
    asked = serve(monkeypatch, package[1])
    assert assets.extract(package[0]) == {"thing.js": b"alert(1)"}
    assert len(asked) == 1


def test_what_is_pinned_is_pinned_by_hash():
    for package in (*assets.SERVED, assets.AXE):
        assert len(base64.b64decode(package.integrity.removeprefix("sha512-"))) == 64
        assert not dataclasses.asdict(package)["version"].startswith(("^", "~"))


def test_a_build_that_must_have_everything_fails_when_something_is_missing(package, monkeypatch, capsys):
    monkeypatch.setattr(assets, "SERVED", [package[0]])
    serve(monkeypatch, b"")
    call_command("fetch_assets")
    assert capsys.readouterr().out == "@scope/thing 1.2.3\n"
    with pytest.raises(CommandError, match="@scope/thing"):
        call_command("fetch_assets", strict=True)
