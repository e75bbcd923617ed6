"""Images from elsewhere, by the API alone: what was brought in starts, and what is hostile is refused in words."""

import hashlib
import re
import subprocess

import pytest

from tests.clouds import wait_until
from tests.end_to_end.faults import delete, wait_for
from tests.storage import bootable
from tests.storage.agent.inspection import hostile

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

WRITING = """#!/bin/sh
file=/root/written
[ -s $file ] || { dd if=/dev/urandom of=$file.new bs=1M count=4 2>/dev/null; mv $file.new $file; sync; }
echo "SUM $(md5sum <$file | cut -c 1-32)" >/dev/console
"""
IMAGES, INSTANCES = "/projects/demo/images", "/projects/demo/instances"


@pytest.fixture
def bring_in(machine):
    """Upload some content as an image; the image, once its import has ended."""
    with machine.api() as api:

        def upload(name, content, **source):
            body = {"name": name, "architecture": "x86_64", "source": {"kind": "upload", **source}}
            answer = api.post(IMAGES, json=body)
            assert answer.status_code == 201, answer.text
            sent = api.put(
                f"{IMAGES}/{name}/file", content=content, headers={"Content-Type": "application/octet-stream"}
            )
            assert sent.status_code == 202, sent.text

            def ended():
                image = api.get(f"{IMAGES}/{name}").json()
                return image if image["status"] in ("ready", "failed") else None

            return wait_until(ended, 120, 0.1, "the import ends")

        upload.api = api
        yield upload


@pytest.mark.parametrize("format_", ["ova", "vdi", "vhdx", "raw"])
def test_a_machine_from_elsewhere_starts(format_, machine, bring_in, tmp_path):
    words, name = f"HELLO FROM {format_.upper()}", f"from-{format_}"
    if format_ == "ova":
        stream = bootable.converted(words, "vmdk", tmp_path, "subformat=streamOptimized")
        content = hostile.tar(("web.ovf", hostile.ovf()), ("disk1.vmdk", stream))
    else:
        content = bootable.converted(words, format_, tmp_path)
    image = bring_in(name, content)
    assert image["status"] == "ready", image["status_reason"]
    assert image["found"]["format"] == format_
    api = bring_in.api
    assert api.post(INSTANCES, json={"name": name, "flavor": "tiny", "image": name}).status_code == 202
    path = f"{INSTANCES}/{name}/console-log"
    wait_until(lambda: words in api.get(path, params={"lines": 50}).json()["lines"], 120, 0.2, "the guest speaks")
    # It does not hear a power button: `down` would wait for it as long as it waits for any guest.
    delete(machine, name)
    wait_for(machine, name, 404)


@pytest.mark.parametrize("kind", ["qcow2-backing-path", "vmdk-flat-passwd", "ovf-external-entity", "raw-is-qcow2"])
def test_a_hostile_file_never_becomes_an_image(kind, bring_in):
    make, declared, words = hostile.KINDS[kind]
    image = bring_in(kind, make(), **({"format": declared} if declared else {}))
    assert image["status"] == "failed"
    assert words in image["status_reason"]
    assert image["files"] == []


def test_what_a_running_machine_wrote_is_in_its_image_and_in_the_export(machine, tmp_path):
    with machine.api() as api:

        def sum_of(name, image):
            launch = {"name": name, "flavor": "tiny", "image": image, "user_data": WRITING}
            answer = api.post(INSTANCES, json=launch)
            assert answer.status_code == 202, answer.text

            def said():
                lines = api.get(f"{INSTANCES}/{name}/console-log", params={"lines": 100}).json()["lines"]
                return re.search(r"SUM (\w{32})", "\n".join(lines))

            return wait_until(said, 120, 0.2, "the guest says what it wrote")[1]

        def ended(path):
            def look():
                body = api.get(path).json()
                return body if body["status"] in ("ready", "failed") else None

            return wait_until(look, 120, 0.1, "the work on the image ends")

        written = sum_of("writer", "tiny-linux")
        made = api.post(f"{INSTANCES}/writer/create-image", json={"name": "golden"})
        assert made.status_code == 202, made.text
        image = ended(f"{IMAGES}/golden")
        assert (image["status"], image["status_reason"]) == ("ready", "")
        assert image["found"]["consistency"] == "crash"
        assert api.get(f"{INSTANCES}/writer").json()["status"] == "running"
        assert sum_of("reader", "golden") == written
        export = api.post(f"{IMAGES}/golden/export", json={"format": "vdi"}).json()
        export = ended(f"/projects/demo/exports/{export['id']}")
        assert (export["status"], export["status_reason"]) == ("ready", "")
        content = api.get(f"/projects/demo/exports/{export['id']}/content").content
        assert hashlib.sha256(content).hexdigest() == export["sha256"]
        vdi = tmp_path / "golden.vdi"
        vdi.write_bytes(content)
        subprocess.run(["qemu-img", "check", "-q", "-f", "vdi", str(vdi)], check=True)
        for name in ("writer", "reader"):
            delete(machine, name)
            wait_for(machine, name, 404)
