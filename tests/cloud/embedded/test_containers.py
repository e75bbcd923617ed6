"""docker-compose.yml and the Dockerfile are checked without an engine: against the schema, and against the code."""

import json
import os
import re
import shlex
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import redis
import yaml

from cloud import server_addresses
from cloud.embedded import ports, postgres, valkey
from cloud.embedded.lock import EXTRAS
from cloud.embedded.paths import TREE
from cloud.embedded.processes import CONTROL_PLANE, CONTROL_VARIABLES, HOST_VARIABLES, OF_A_HOST
from cloud.embedded.system_packages import NETWORKS, QEMU, TOOLS, UEFI
from images.tools import REQUIRED_TOOLS, UNPACKING_TOOLS

COMPOSE = yaml.safe_load((TREE / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (TREE / "Dockerfile").read_text()
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("pileus-")}
HOSTS = ("node1", "node2")
# Passwords as people make them, and as generators do (`openssl rand -base64`).
PASSWORDS = ["plain", "ab/cd+ef==", "p@ss:w/r#d?&%41", "with space", "'\"\\", "ümläut €", "-all", "${X}"]


def filled_in(value: str, **variables: str) -> str:
    """A value of the file as Compose gives it to the container."""

    def one(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2) or ""
        return variables.get(name) or filled_in(default.removeprefix(":-"), **variables)

    return re.sub(r"\$\{(\w+)((?::[-?](?:[^{}]|\$\{[^{}]*\})*)?)\}", one, value)


def test_the_file_follows_the_compose_schema():
    schema = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))


def test_every_process_has_a_service_and_two_hosts_are_there():
    assert OURS.keys() == {process.name for process in CONTROL_PLANE} | {*HOSTS, "migrate"}
    assert {"postgres", "redis"} <= SERVICES.keys()


def test_one_machine_is_not_sold_twice_unless_somebody_asks_for_a_second_node():
    assert [name for name in HOSTS if "profiles" not in SERVICES[name]] == ["node1"]


@pytest.mark.parametrize("process", CONTROL_PLANE, ids=lambda process: process.name)
def test_a_service_runs_the_command_of_the_process_table(process):
    service = SERVICES[process.name]
    assert service["command"] == process.argv(service["environment"])


@pytest.mark.parametrize("name", HOSTS)
def test_a_node_runs_all_processes_of_a_host(name):
    environment = SERVICES[name]["environment"]
    commands = [shlex.join(process.argv(environment)) for process in OF_A_HOST]
    assert SERVICES[name]["command"] == commands
    assert f"CMD {json.dumps(commands)}" in DOCKERFILE


def test_the_migration_is_a_command_that_exists():
    assert SERVICES["migrate"]["command"][:3] == ["python", "manage.py", "migrate"]
    assert (TREE / "manage.py").exists()


@pytest.mark.parametrize("service", OURS)
def test_a_service_is_told_only_variables_that_its_code_reads(service):
    variables = set(SERVICES[service]["environment"])
    if service in HOSTS:
        assert variables <= HOST_VARIABLES
        sources = [*(TREE / "agent").rglob("*.py"), *(TREE / "compute" / "agent").rglob("*.py")]
    else:
        assert variables <= CONTROL_VARIABLES
        sources = [TREE / "cloud" / "settings.py", TREE / "cloud" / "web.py"]
    text = "".join(source.read_text() for source in sources)
    assert [name for name in variables if f'"{name}"' not in text] == []


def packages_of(stage: str) -> set[str]:
    text = DOCKERFILE.partition(f"AS {stage}\n")[2].partition("\nFROM ")[0]
    return set(re.findall(r"--no-install-recommends ([a-z0-9 -]+)", text)[0].split())


def test_the_images_can_be_built_in_the_control_container():
    assert {*REQUIRED_TOOLS.values(), *UNPACKING_TOOLS.values()} <= {*packages_of("control"), "apt", "dpkg"}


def test_a_node_has_the_tools_of_a_host():
    wanted = {tool.package for tool in TOOLS if tool.needed_for in (QEMU, UEFI, NETWORKS)}
    assert wanted <= packages_of("node")


def test_a_host_is_told_no_secret():
    assert not any("PASSWORD" in value for name in HOSTS for value in SERVICES[name]["environment"].values())


def test_addresses_name_services_of_the_file_and_the_ports_they_listen_on():
    listening = {
        "postgres": 5432,
        "redis": 6379,
        "web": int(SERVICES["web"]["environment"]["PILEUS_BIND"].rpartition(":")[2]),
    }
    for service in OURS.values():
        for name in ("DATABASE_URL", "REDIS_URL", "PILEUS_HOST_REDIS_URL"):
            if value := service["environment"].get(name):
                host, port = re.search(r"[/@]([a-z]+):(\d+)/", value).groups()
                assert listening[host] == int(port)
    assert SERVICES["web"]["ports"] == [f"${{PILEUS_LISTEN:-127.0.0.1}}:${{PILEUS_PORT:-8080}}:{listening['web']}"]
    assert f":{listening['web']}/readyz" in SERVICES["web"]["healthcheck"]["test"][-1]


def test_dependencies_and_volumes_exist():
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= SERVICES.keys()
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in COMPOSE["volumes"]


def test_each_image_of_ours_is_built_by_one_service():
    """Compose stamps an image with its service: with two builders each `up` would exchange every container."""
    builders = [service["image"] for service in SERVICES.values() if "build" in service]
    assert sorted(builders) == sorted({service["image"] for service in OURS.values()})


def test_a_node_depends_on_nothing():
    """Compose exchanges a container, and so ends a node's machines, when one that it depends on is exchanged."""
    assert [name for name in HOSTS if "depends_on" in SERVICES[name] or "networks" in SERVICES[name]] == []
    assert [name for name in HOSTS for value in SERVICES[name]["environment"].values() if "$" in value] == []


def test_the_database_is_out_of_the_nodes_reach():
    assert SERVICES["postgres"]["networks"] == ["database"]
    assert all(
        service.get("networks") == ["default", "database"] for name, service in OURS.items() if name not in HOSTS
    )
    assert COMPOSE["networks"]["database"]["internal"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_the_wheels_valkey_starts_with_the_files_command_and_lets_control_in(password, tmp_path):
    port = ports.next_free(range(6700, 6780))
    command = [filled_in(word, REDIS_PASSWORD=password) for word in SERVICES["redis"]["command"]]
    assert command[0] == "valkey-server"
    server = subprocess.Popen(
        [str(valkey.server()), *command[1:], "--port", str(port), "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        told = {name: filled_in(value, REDIS_PASSWORD=password) for name, value in control_environment().items()}
        url = server_addresses.redis(told["REDIS_URL"], told["PILEUS_REDIS_PASSWORD"])
        valkey.wait_until_ready(url.replace("@redis:6379/", f"@127.0.0.1:{port}/"))
        with redis.Redis(port=port) as anybody, pytest.raises(redis.AuthenticationError):
            anybody.ping()
    finally:
        server.terminate()
        server.wait()


def test_passwords_reach_the_settings_as_they_are():
    password = "".join(PASSWORDS)
    told = {
        name: filled_in(value, POSTGRES_APP_PASSWORD=password, REDIS_PASSWORD=password)
        for name, value in control_environment().items()
    }
    show = (
        "import json; from cloud import settings as s; from kombu import Connection as C; d = s.DATABASES['default'];"
        "b = C(s.CELERY_BROKER_URL); print(json.dumps([d['HOST'], d['PASSWORD'], b.hostname, b.password]))"
    )
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **told}
    python = ["python", "-P", "-c", show]
    shown = subprocess.run(python, env=env | {"PYTHONPATH": str(TREE)}, capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout) == ["postgres", password, "redis", password]


def control_environment() -> dict[str, str]:
    environment: dict[str, str] = SERVICES["control"]["environment"]
    return environment


@pytest.mark.parametrize(
    ("variables", "listening", "url"),
    [
        ({}, "127.0.0.1:8080:8080", "http://127.0.0.1:8080"),
        ({"PILEUS_PORT": "8090"}, "127.0.0.1:8090:8080", "http://127.0.0.1:8090"),
        ({"PILEUS_LISTEN": "0.0.0.0", "PILEUS_URL": "https://x"}, "0.0.0.0:8080:8080", "https://x"),
    ],
)
def test_the_port_is_on_loopback_unless_asked_and_the_url_follows_it(variables, listening, url):
    assert filled_in(SERVICES["web"]["ports"][0], **variables) == listening
    assert filled_in(control_environment()["PILEUS_URL"], **variables) == url


def test_postgresql_is_healthy_only_when_others_reach_it():
    """The image's first initialisation has a server on the Unix socket alone."""
    test = SERVICES["postgres"]["healthcheck"]["test"]
    assert test[test.index("--host") + 1] == "127.0.0.1"


def test_postgresql_logs_no_values_of_statements():
    command = " ".join(SERVICES["postgres"]["command"])
    for name in ("log_min_error_statement", "log_error_verbosity", "log_parameter_max_length_on_error"):
        assert f"-c {name}={postgres.NO_VALUES_IN_LOGS[name]}" in command


def test_a_build_without_the_npm_registry_fails():
    assert "fetch_assets --strict" in DOCKERFILE


def test_web_and_streams_share_the_folder_of_their_socket():
    folder = SERVICES["streams"]["environment"]["PILEUS_STREAMS_SOCKET"].rpartition("/")[0]
    assert f"sockets:{folder}" in SERVICES["web"]["volumes"]
    assert f"sockets:{folder}" in SERVICES["streams"]["volumes"]


def test_each_build_target_exists_and_installs_by_hash_from_a_lock_that_is_made():
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)\n((?:(?!^FROM ).*\n?)*)", DOCKERFILE, re.MULTILINE))
    for service in (service for service in OURS.values() if "build" in service):
        stage = stages[service["build"]["target"]]
        lock = re.search(r"--require-hashes .*--requirement (\S+)", stage).group(1)
        assert lock in EXTRAS
        assert f"COPY {lock} " in stage


def test_everything_that_is_copied_exists():
    sources = [shlex.split(line)[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    assert [path for paths in sources for path in paths if not (TREE / path).exists()] == []


def copied(stage: str, folder: Path) -> Path:
    """The folder with all that a stage copies into its image."""
    lines = re.search(rf"^FROM \S+ AS {stage}\n((?:(?!^FROM ).*\n?)*)", DOCKERFILE, re.MULTILINE).group(1).splitlines()
    for *sources, target in (line.split()[1:] for line in lines if line.startswith("COPY ")):
        for source in (TREE / name for name in sources):
            place = folder / target / source.name if target.endswith("/") and source.is_file() else folder / target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    return folder


def modules_in(folder: Path) -> list[str]:
    names = [".".join(file.relative_to(folder).with_suffix("").parts) for file in folder.rglob("*.py")]
    return [name.removesuffix(".__init__") for name in names if not name.endswith(("__main__", "manage"))]


def import_all(modules: list[str], folder: Path, first: str = "pass", **environment: str) -> None:
    done = subprocess.run(
        ["python", "-c", f"import importlib\n{first}\n[importlib.import_module(name) for name in {modules}]"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_node_has_every_module_that_it_imports(tmp_path):
    copied("node", tmp_path)
    import_all(modules_in(tmp_path), tmp_path)


def test_the_control_plane_has_every_module_that_it_imports(tmp_path):
    """What is a host's, it needs only as far as its own modules import it."""
    copied("control", tmp_path)
    own = [name for name in modules_in(tmp_path) if "agent" not in name.split(".")]
    import_all(
        own,
        tmp_path,
        "import django; django.setup()",
        DJANGO_SETTINGS_MODULE="cloud.settings",
        PILEUS_SECRET_KEY="x" * 64,
    )


def test_the_control_image_is_built_without_a_secret(tmp_path):
    source, static = copied("control", tmp_path / "source"), tmp_path / "static"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PILEUS_STATIC_ROOT": str(static)}
    command = re.search(r"^RUN python (manage.py collectstatic .*) \\$", DOCKERFILE, re.MULTILINE).group(1).split()
    command = ["python", *command]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert any(static.iterdir())


def test_a_node_has_a_first_process_that_outlives_its_worker():
    entry = re.search(r'^ENTRYPOINT \["python", "-m", "([a-z.]+)"\]', DOCKERFILE.partition("AS node")[2], re.MULTILINE)
    assert (TREE / entry.group(1).replace(".", "/")).with_suffix(".py").exists()
    assert all("init" not in SERVICES[name] for name in HOSTS)


def test_a_node_gets_no_django():
    assert "django==" not in (TREE / "requirements-agent.lock").read_text()
    node = DOCKERFILE.partition("AS node")[2]
    assert "COPY cloud/" not in node
