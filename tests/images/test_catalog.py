"""The catalog of systems' own images: whole, and its checksums are found."""

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


def test_a_name_means_its_newest_version():
    assert find("debian").version == "13"
    assert find("debian:12").version == "12"
    assert find("nothing") is None


@pytest.mark.parametrize("line", [f"{SUM}  a.qcow2", f"{SUM} *a.qcow2", f"SHA256 (a.qcow2) = {SUM}"])
def test_checksums_are_found(line):
    assert checksum(f"# made today\n{'cd' * 32}  b-a.qcow2\n{line}\n", "a.qcow2") == SUM
    assert checksum(f"{line}\n", "other.qcow2") == ""
