"""How `up` lets somebody into the first virtual machine."""

import stat

import pytest

from cloud.embedded import first_ssh
from cloud.embedded.paths import Home

PROJECT = "/projects/demo/"


class Demo:
    """The API as `up` uses it, over a few names."""

    def __init__(self, **instance):
        self.rows = {"keypairs": {}, "security-groups": {}, "port-forwards": {}}
        self.instance = {"addresses": [{"address": "10.0.0.2"}], "address_reason": "", **instance}
        self.becomes_ready = True

    def call(self, method, path, params=None, json=None):
        collection, _, name = path.removeprefix(PROJECT).partition("/")
        if collection == "instances":
            return self.instance
        rows = self.rows[collection]
        if method == "DELETE":
            del rows[name]
            return {}
        if method == "POST":
            listen = {"address": "127.0.0.1", "port": 20022}
            rows[json["name"]] = {"secret": f"key {len(rows)}", "listen": listen, "status": "waiting", **json}
            return rows[json["name"]]
        if name:
            if self.becomes_ready:
                rows[name]["status"] = "ready"
            return {"status_reason": "no such luck", **rows[name]}
        return {"items": [rows[params["name"]]] if params["name"] in rows else []}


@pytest.fixture
def home(tmp_path):
    found = Home(tmp_path)
    found.secrets.mkdir(mode=0o700)
    return found


def test_the_launch_gets_a_key_and_a_group_that_lets_ssh_in(home):
    demo = Demo()
    assert first_ssh.key_and_group(home, demo) == {"keypairs": ["first"], "security_groups": ["default", "ssh"]}
    assert home.ssh_key.read_text() == "key 0"
    assert stat.S_IMODE(home.ssh_key.stat().st_mode) == 0o600
    assert demo.rows["security-groups"]["ssh"]["rules"][0]["port_min"] == 22


def test_again_it_keeps_the_key_and_makes_a_lost_one_anew(home):
    demo = Demo()
    first_ssh.key_and_group(home, demo)
    demo.rows["keypairs"]["other"] = {}
    first_ssh.key_and_group(home, demo)
    assert home.ssh_key.read_text() == "key 0"
    home.ssh_key.unlink()
    first_ssh.key_and_group(home, demo)
    assert home.ssh_key.read_text() == "key 1"


def test_a_port_that_leads_there_becomes_a_command(home):
    demo = Demo()
    line = f"ssh -i {home.ssh_key} -p 20022 root@127.0.0.1"
    assert first_ssh.open_way(home, demo, "some-id") == line
    assert demo.rows["port-forwards"]["first-ssh"]["to"] == {"instance": "some-id", "target_port": 22}
    assert first_ssh.open_way(home, demo, "some-id") == line


def test_without_networks_it_says_why(home, monkeypatch):
    reason = "Its host carries no networks."
    assert first_ssh.open_way(home, Demo(addresses=[], address_reason=reason), "some-id") == f"no SSH: {reason}"
    monkeypatch.setattr(first_ssh, "SECONDS_TO_OPEN", 0.3)
    demo = Demo()
    demo.becomes_ready = False
    assert first_ssh.open_way(home, demo, "some-id") == "no SSH yet: no such luck"
