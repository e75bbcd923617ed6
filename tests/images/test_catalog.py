"""The catalog of systems' own images: whole, and its checksums are found."""

from urllib.parse import urlsplit

import pytest

from images.catalog import checksum, entries, find
from storage.api.image_fields import ImageForm

SUM = "ab" * 32


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.reference)
def test_every_entry_could_be_imported(entry):
    source = {"kind": "url", "url": entry.url, "format": entry.format}
    form = ImageForm(data={"name": entry.name, "version": entry.version, "source": source, **entry.properties})
    assert form.is_valid(), form.errors
    assert entry.url.startswith("https://")
    assert entry.sums == "" or entry.sums.startswith("https://")


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.reference)
def test_every_address_says_what_the_entry_says(entry):
    """A slip of the pen would fetch another system, another architecture or a format that is refused."""
    names = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "aarch64")}[entry.properties["architecture"]]
    assert any(name in entry.filename for name in names)
    assert str(entry.properties["os"]) in entry.url.lower()
    version = entry.version
    codenames = {"debian": {"13": "trixie", "12": "bookworm"}}.get(str(entry.properties["os"]), {})
    assert codenames.get(version, version) in entry.url
    assert entry.filename.removesuffix(".xz").endswith((".qcow2", ".img"))
    assert urlsplit(entry.url).query == ""
    if entry.sums:
        assert urlsplit(entry.sums).hostname == urlsplit(entry.url).hostname
        assert entry.sums.rpartition("/")[0] == entry.url.rpartition("/")[0]
    references = [other.reference for other in entries()]
    assert references.count(entry.reference) == 1


def test_a_name_means_its_newest_version():
    assert find("debian").version == "13"
    assert find("debian:12").version == "12"
    assert find("nothing") is None


@pytest.mark.parametrize("line", [f"{SUM}  a.qcow2", f"{SUM} *a.qcow2", f"SHA256 (a.qcow2) = {SUM}"])
def test_checksums_are_found(line):
    assert checksum(f"# made today\n{'cd' * 32}  b-a.qcow2\n{line}\n", "a.qcow2") == SUM
    assert checksum(f"{line}\n", "other.qcow2") == ""
