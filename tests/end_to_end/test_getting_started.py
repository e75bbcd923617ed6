"""The first steps do what they say when they are pasted: against real web and streams processes, on a fake node."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cloud.dashboard import getting_started
from cloud.operations.models import Operation
from cloud.tenancy.models import Role
from compute import console_logs
from compute.models import Instance
from tests import factories
from tests.clouds import SmallCloud

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cloud():
    with tempfile.TemporaryDirectory(prefix="p-") as folder:  # short: there are Unix sockets in it
        yield SmallCloud(Path(folder))


def paste(cloud: SmallCloud, command: list[str], text: str, token: str, tmp_path: Path) -> str:
    """What comes out of it, while workers and hosts do what it asks for."""
    text = text.replace(getting_started.TOKEN, token)
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    program = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        env=environment,
    )  # fmt: skip
    assert program.stdin is not None
    program.stdin.write(text)
    program.stdin.close()
    until = time.monotonic() + 60
    while program.poll() is None and time.monotonic() < until:
        if Operation.objects.filter(finished_at=None).exists():
            cloud.settle()
        for instance in Instance.objects.filter(console_log=None).exclude(machine=None):
            console_logs.keep(host=instance.host, instance_id=instance.pk, offset=0, content=b"login: ")
        time.sleep(0.1)
    cloud.settle()
    assert program.stdout is not None
    said = program.stdout.read()
    assert program.wait(30) == 0, said
    return said


@pytest.mark.parametrize("language", ["shell", "python"])
def test_the_first_steps_work_as_pasted(language, servers, cloud, tmp_path):
    member = factories.member(cloud.project, Role.MEMBER)
    cloud.project.keypairs.create(name="laptop", public_key="ssh-ed25519 AAAA", fingerprint="SHA256:x")
    facts = getting_started.Facts(
        servers.url, cloud.project.name, cloud.image.name, cloud.flavor.name, keypair="laptop"
    )
    token = factories.token(member, project=cloud.project)
    mine = cloud.launch(name="first")
    cloud.settle()
    if language == "shell":
        text = "set -e\n" + "\n".join(step.code for step in getting_started.shell(facts))
        said = paste(cloud, ["bash"], text, token, tmp_path)
        assert '"status":"running"' in said.replace(" ", "")
        assert '"plan"' in said
    else:
        said = paste(cloud, [sys.executable, "-"], getting_started.python(facts), token, tmp_path)
        assert said.splitlines()[:2] == ["done ", "running"]
    assert "login: " in said
    assert Operation.objects.filter(kind="compute.launch", outcome="done").count() == 2
    assert [instance.pk for instance in Instance.objects.all()] == [mine.pk]


def test_a_launch_that_is_refused_deletes_nothing(servers, cloud, tmp_path):
    member = factories.member(cloud.project, Role.MEMBER)
    mine = cloud.launch(name="first")
    cloud.settle()
    facts = getting_started.Facts(servers.url, cloud.project.name, "no-such-image", cloud.flavor.name)
    text = "\n".join(step.code for step in getting_started.shell(facts)) + "\ntrue"
    said = paste(cloud, ["bash", "-i"], text, factories.token(member, project=cloud.project), tmp_path)
    assert "nothing was launched" in said
    assert [instance.pk for instance in Instance.objects.all()] == [mine.pk]
