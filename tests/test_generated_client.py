"""A client that openapi-python-client generates from our OpenAPI document launches, waits, stops and deletes."""

import importlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from cloud.api.documentation import text
from compute.models import Instance
from tests import factories
from tests.clouds import SmallCloud
from tests.servers import servers

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["servers"]
PACKAGE = "pileus_client"


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Finds a module of the generated package: `generated("models")`."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "schema.json").write_text(text())
    (folder / "config.yaml").write_text("post_hooks: []\n")  # nobody reads it: no formatting
    command = ["generate", "--path", "schema.json", "--output-path", PACKAGE, "--meta", "none", "--fail-on-warning"]
    done = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", *command, "--config", "config.yaml"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"{PACKAGE}.{name}")
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


class Tenant:
    """What a program with the generated client does. Every status that the document does not know is an error."""

    def __init__(self, generated, url: str, secret: str, cloud: SmallCloud) -> None:
        self._module, self._cloud, self.project = generated, cloud, cloud.project.name
        self.models: ModuleType = generated("models")
        self._client = generated("client").AuthenticatedClient(
            base_url=url, token=secret, raise_on_unexpected_status=True, httpx_args={"trust_env": False}
        )

    def call(self, tag: str, operation: str, *path: str, **how):
        """The answer, parsed."""
        return self._module(f"api.{tag}.{operation}").sync(self.project, *path, client=self._client, **how)

    def finish(self, instance):
        """Wait for what is under way with an instance, which happens meanwhile; the operation once it has ended."""
        with ThreadPoolExecutor(1) as threads:
            get = "get_projects_operations"
            ended = threads.submit(self.call, "operations", get, str(instance.operation.id), wait=20)
            self._cloud.settle()
            return ended.result()


@pytest.fixture
def tenant(generated, servers, cloud):
    return Tenant(generated, servers.url, factories.token(factories.member(cloud.project)), cloud)


def test_a_generated_client_launches_waits_stops_and_deletes(tenant, cloud):
    form = tenant.models.LaunchFormRequest(name="web", flavor=cloud.flavor.name, image=cloud.image.name)
    web = tenant.call("instances", "create_projects_instances", body=form)
    assert (web.name, web.operation.kind, web.operation.outcome) == ("web", "compute.launch", None)
    assert tenant.finish(web).outcome == "done"
    assert tenant.call("instances", "get_projects_instances", "web").status == "running"

    web = tenant.call("instances", "stop_projects_instances", "web", body=tenant.models.StopFormRequest(force=True))
    assert tenant.finish(web).outcome == "done"
    web = tenant.call("instances", "start_projects_instances", "web")
    assert tenant.finish(web).outcome == "done"
    assert tenant.call("instances", "get_projects_instances", "web").status == "running"

    web = tenant.call("instances", "delete_projects_instances", "web")
    assert web.operation.kind == "compute.discard"
    assert tenant.finish(web).outcome == "done"
    assert tenant.call("instances", "get_projects_instances", "web").code == "not_found"
    assert not Instance.objects.filter(trashed_at=None).exists()


def test_a_generated_client_launches_several(tenant, cloud):
    form = tenant.models.LaunchFormRequest(name="web", flavor=cloud.flavor.name, image=cloud.image.name, count=2)
    several = tenant.call("instances", "create_projects_instances", body=form)
    assert [web.name for web in several.items] == ["web-1", "web-2"]
