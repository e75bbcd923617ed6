"""What the guest makes of a seed: its own Lua and libyaml run here, out of the image, on documents of every kind."""

import base64
import gzip
import json
import os
import random
import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml

from compute.agent import host_keys, nocloud
from compute.ssh import fingerprint

DUMP = """
package.path = arg[1] .. "/usr/lib/pileus/?.lua;" .. package.path
local document = require("document")
local function quote(text)
  return '"' .. text:gsub('[%c"\\\\\\128-\\255]', function(c) return string.format("\\\\u%04x", c:byte()) end) .. '"'
end
local function dump(value)
  local parts = {}
  if document.is_list(value) then
    for _, item in ipairs(value) do parts[#parts + 1] = dump(item) end
    return "[" .. table.concat(parts, ",") .. "]"
  elseif document.is_map(value) then
    for _, key in document.keys(value) do parts[#parts + 1] = quote(key) .. ":" .. dump(value[key]) end
    return "{" .. table.concat(parts, ",") .. "}"
  end
  return document.scalar(value) and quote(value) or '""'
end
local done, result = pcall(function()
  local root, problems = document.parse(io.read("a"))
  if #problems > 0 then error({ reason = table.concat(problems, "; ") }, 0) end
  return dump(root)
end)
if done then print(result) else io.stderr:write(type(result) == "table" and result.reason or result); os.exit(1) end
"""

VOLUME = """
package.path = arg[1] .. "/usr/lib/pileus/?.lua;" .. package.path
local files = require("volume").read(arg[2])
if not files then os.exit(3) end
io.write(files["meta-data"] or "", "|", files["user-data"] or "")
"""


class Guest:
    """Runs the guest's programs on this machine."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root, self.work = root, work

    def lua(self, *arguments: str, text: str | bytes = "") -> subprocess.CompletedProcess[bytes]:
        return self.run("usr/bin/lua5.4", *arguments, text=text)

    def run(self, program: str, *arguments: str, text: str | bytes = "") -> subprocess.CompletedProcess[bytes]:
        loader = [str(self.root / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(self.root / "usr/lib")]
        environment = dict(os.environ, LUA_CPATH=f"{self.root}/usr/local/lib/lua/5.4/?.so")
        content = text if isinstance(text, bytes) else text.encode()
        return subprocess.run(
            [*loader, str(self.root / program), *arguments],
            input=content,
            env=environment,
            capture_output=True,
            check=False,
        )

    def parse(self, text: str):
        """A document as the guest reads it; ValueError with its reason."""
        script = self.work / "dump.lua"
        script.write_text(DUMP)
        done = self.lua(str(script), str(self.root), text=text)
        if done.returncode:
            raise ValueError(done.stderr.decode())
        return json.loads(done.stdout)  # each byte as a character of its own: see as_text

    def translate(
        self, *, user_data: str | bytes = "", meta_data: str = "instance-id: i\n"
    ) -> tuple[list[list[str]], list[list[str]]]:
        """The calls made of meta-data and of user-data, word by word."""
        (self.work / "meta-data").write_text(meta_data)
        (self.work / "user-data").write_bytes(
            user_data if isinstance(user_data, bytes) else textwrap.dedent(user_data).encode()
        )
        done = self.lua(str(self.root / "usr/lib/pileus/translate.lua"), str(self.work), str(self.work))
        assert done.returncode == 0, done.stderr
        return self._calls("meta-data.sh"), self._calls("user-data.sh")

    def translate_vendor_data(self, text: str) -> list[list[str]]:
        """The calls made of what the cloud itself says."""
        (self.work / "vendor-data").write_text(text)
        self.translate()
        return self._calls("vendor-data.sh")

    def read_volume(self, content: bytes) -> bytes | None:
        """Meta-data and user-data of a volume, as they are read without mounting it; None: it is none."""
        script, device = self.work / "volume.lua", self.work / "device"
        script.write_text(VOLUME)
        device.write_bytes(content)
        done = self.lua(str(script), str(self.root), str(device))
        assert done.returncode in (0, 3), done.stderr
        return done.stdout if done.returncode == 0 else None

    def _calls(self, name: str) -> list[list[str]]:
        path = self.work / name
        if not path.exists():
            return []
        calls: list[list[str]] = [[]]
        for word in re.findall(r"\n|(?:'[^']*'|\\'|[^\s'\\])+", path.read_text(errors="surrogateescape")):
            if word == "\n":
                calls.append([])
            else:
                calls[-1] += shlex.split(word)
        return [call for call in calls if call]


@pytest.fixture
def guest(guest_root: Path, tmp_path: Path) -> Guest:
    return Guest(guest_root, tmp_path)


DOCUMENTS = {
    "block scalars": "a: |\n  one\n    two\n\n  three\nb: >\n  folded\n  text\n\n  para\n"
    "c: |-\n  stripped\nd: |+\n  kept\n\n\ne: |2\n    x\n",
    "quotes": "a: 'it''s'\nb: \"tab\\t nl\\n \\x41 \\u263a\"\nc: plain # comment\nd: 'a # b'\ne: \"multi\n  line\"\n",
    "flow": '{a: [1, \'two\', {b: c}], d: {}, e: [], "f": "g"}\n',
    "nesting": "- - a\n  - - b\n    - c: d\n      e:\n      - f\n-\n  g: h\n- {i: [j, k]}\n",
    "comments": "# first\n#cloud-config\na: 1 # one\n\n# between\nb:\n  # inside\n  - x\n  # more\n  - y\n",
    "anchors": "base: &b {x: 1, y: 2}\nlist: [*b, *b]\nname: &n text\nsame: *n\n",
    "odd words": "perm: 0644\npass: 007\nfloat: 1e3\nyes: no\ntime: 12:30:45\nurl: http://x/?a=b#c\ncolon: a:b\n",
    "json": json.dumps({"a": ["b", {"c": "d\n\u00e9"}], "e": "f"}, ensure_ascii=False),
    "document markers": "---\na: b\n...\n",
    "windows line ends": "a: b\r\nc:\r\n  - d\r\n",
    "unicode": "naïve: ☃ – “quoted”\n",
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_are_read_as_yaml_says(guest, text):
    assert as_text(guest.parse(text)) == yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - its scalars stay text, too


def as_text(value):
    """UTF-8 out of the bytes that the guest's strings are."""
    if isinstance(value, dict):
        return {as_text(key): as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return value.encode("latin-1").decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1, 2\nb: c\n", "line"),
        ("a: b\n  c: d\n", "line 2"),
        ("a: 'open\n", "line"),
        ("a: *nothing\n", "unknown anchor nothing"),
        ("a: &x [*x]\n", "unknown anchor x"),
        ("\tkey: tab\n", "line 1"),
        ("[" * 100 + "]" * 100, "nested too deeply"),
        ("a: b\n---\nc: d\n", "second document"),
        ("? [a]\n: b\n", "a key must be plain text"),
        ("a: \x01\n", "control characters"),
    ],
)
def test_malformed_documents_have_a_reason(guest, text, reason):
    with pytest.raises(ValueError, match=reason):
        guest.parse(text)


def test_a_bomb_of_aliases_stays_small(guest):
    text = (
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)) + "#cloud-config\n"
    )
    _, calls = guest.translate(user_data=("#cloud-config\n" + text).encode())
    assert ["say", "user-data: a59 is not known here: ignored"] in calls


def test_a_seed_volume_is_read_without_being_mounted(guest):
    user_data = "#!/bin/sh\n" + "# long\n" * 20_000
    files = nocloud.files({"instance_id": "i", "hostname": "h", "user_data": user_data}, [], host_keys.make())
    volume = nocloud.iso(files)
    assert guest.read_volume(volume) == files["meta-data"] + b"|" + user_data.encode()
    assert guest.read_volume(b"") is None
    assert guest.read_volume(bytes(len(volume))) is None
    assert guest.read_volume(b"\xff" * len(volume)) is None


def test_a_damaged_seed_volume_is_no_harm(guest):
    seed = {"instance_id": "i", "hostname": "h", "user_data": ""}
    volume = nocloud.iso(nocloud.files(seed, [], host_keys.make()))
    generator = random.Random(7)
    for _ in range(100):
        damaged = bytearray(volume)
        for _ in range(generator.randrange(1, 200)):
            place = generator.randrange(0x8000, min(len(volume), 0x10000))
            damaged[place] = generator.choice((0, 255, generator.randrange(256)))
        guest.read_volume(bytes(damaged[: generator.choice((len(volume), generator.randrange(len(volume))))]))


def test_meta_data_gives_identity_hostname_and_keys(guest):
    meta, _ = guest.translate(
        meta_data='{"instance-id": "i-7", "local-hostname": "web", "public-keys": ["ssh-rsa A a", "ssh-rsa B b"]}'
    )
    assert meta[0] == ["set_hostname", "web", ""]
    assert meta[1][:2] == ["authorize_keys", "root"]
    assert Path(meta[1][2]).read_text() == "ssh-rsa A a\nssh-rsa B b\n"
    assert (guest.work / "instance-id").read_text() == "i-7\n"


@pytest.mark.parametrize(
    "keys", ["public-keys: ssh-rsa A a", "public-keys: {one: ssh-rsa A a}", "public-keys: {one: [ssh-rsa A a]}"]
)
def test_every_form_of_public_keys_is_read(guest, keys):
    meta, _ = guest.translate(meta_data=f"instance-id: i\n{keys}\n")
    assert Path(meta[0][2]).read_text() == "ssh-rsa A a\n"


def test_malformed_meta_data_is_said(guest):
    meta, _ = guest.translate(meta_data="instance-id: [\n")
    assert meta[0][0] == "say"
    assert "meta-data is malformed and not applied: line" in meta[0][1]


def test_no_value_can_become_a_command(guest):
    evil = "'; reboot; echo $(reboot) `reboot` \\' \"\n"
    document = {
        "users": [{"name": "bob", "gecos": evil, "plain_text_passwd": evil}],
        "write_files": [{"path": "/x" + evil, "content": evil}],
    }
    _, calls = guest.translate(user_data="#cloud-config\n" + json.dumps(document))
    by_name = {call[0]: call for call in calls}
    assert set(by_name) == {"add_user", "set_password", "lock_password", "write_file"}
    assert by_name["set_password"] == ["set_password", "bob", "text", evil]
    assert by_name["write_file"][1] == "/x" + evil


def test_every_known_key_is_translated_in_order(guest):
    _, calls = guest.translate(
        user_data="""\
        #cloud-config
        runcmd:
          - echo one
          - [echo, "it's", two]
        chpasswd:
          list: "bob:pw\\nroot:$6$salt$hash\\n"
          users: [{name: al, password: x, type: text}, {name: al, type: RANDOM}]
        password: s3cret
        ssh_pwauth: yes
        ssh_authorized_keys: [ssh-ed25519 T t]
        write_files:
          - {path: /a, content: x, permissions: 0600, owner: bob, append: true}
          - path: /b
            encoding: gz+b64
            content: H4sI
        users:
        - default
        - {name: bob, groups: "wheel, adm", shell: /bin/ash, sudo: x, ssh_authorized_keys: [ssh-rsa K k]}
        hostname: web.example.com
        bootcmd: [date]
        package_update: true
        """
    )
    assert [call[0] for call in calls] == [
        "say", "keep_script", "set_hostname", "say", "add_user", "lock_password", "authorize_keys",
        "write_file", "write_file", "authorize_keys", "set_password", "set_password", "set_password", "set_password",
        "set_password", "allow_password_ssh", "keep_script",
    ]  # fmt: skip
    assert ["say", "user-data: package_update is not known here: ignored"] in calls
    assert ["say", "users: sudo of bob is not known here: ignored"] in calls
    assert ["set_hostname", "web", "web.example.com"] in calls
    assert ["add_user", "bob", "", "", "/home/bob", "/bin/ash", "", "wheel adm", "home", ""] in calls
    assert ["set_password", "root", "hash", "$6$salt$hash"] in calls
    assert ["set_password", "al", "RANDOM", ""] in calls
    content = str(guest.work / "user-data.content-")
    assert ["write_file", "/a", "0600", "bob", "append", "", f"{content}1"] in calls
    assert ["write_file", "/b", "0644", "root:root", "replace", "base64 gzip", f"{content}2"] in calls
    assert Path(calls[-1][2]).read_text() == "#!/bin/sh\necho one\n'echo' 'it'\\''s' 'two'\n"


def test_the_host_key_is_one_that_dropbear_reads(guest):
    key = host_keys.make()
    ((name, printable, shown),) = guest.translate_vendor_data(nocloud.vendor_data(key))
    assert (name, shown) == ("use_host_key", fingerprint(key.public))
    file = guest.work / "key"
    file.write_bytes(subprocess.run(["printf", printable], capture_output=True, check=True).stdout)
    read = guest.run("usr/bin/dropbearkey", "-y", "-f", str(file)).stdout.decode()
    assert key.public in read
    assert f"Fingerprint: {shown}\n" in read


def test_a_host_key_without_its_fingerprint_is_read_too(guest):
    ((name, _, shown),) = guest.translate_vendor_data(
        "#cloud-config\n" + json.dumps({"ssh_keys": {"ed25519_private": host_keys.make().private}})
    )
    assert (name, shown) == ("use_host_key", "")


NO_KEY = "ssh_keys: ed25519_private is no ed25519 key without a passphrase: ignored"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "ssh_keys is not a mapping: ignored"),
        ({"rsa_private": "x"}, "ssh_keys: rsa_private is not known here: ignored"),
        ({"ed25519_private": "x"}, NO_KEY),
        ({"ed25519_private": "-----BEGIN OPENSSH PRIVATE KEY-----\n====\n-----END OPENSSH PRIVATE KEY-----\n"}, NO_KEY),
        ({"ed25519_private": host_keys.make().private.replace("b3BlbnNz", "b3BlbnNa")}, NO_KEY),
    ],
)
def test_a_host_key_that_is_none_is_said_and_left_out(guest, keys, said):
    assert guest.translate_vendor_data("#cloud-config\n" + json.dumps({"ssh_keys": keys})) == [["say", said]]


def test_a_damaged_host_key_is_no_harm(guest):
    private = host_keys.make().private
    lines = private.splitlines()
    content = base64.b64decode("".join(lines[1:-1]))
    generator = random.Random(11)
    for size in (0, 15, 40, 100, 200, len(content) - 1):
        damaged = bytearray(content[:size])
        for _ in range(3 if size else 0):
            damaged[generator.randrange(size)] = 255
        text = "\n".join((lines[0], base64.b64encode(damaged).decode(), lines[-1]))
        calls = guest.translate_vendor_data("#cloud-config\n" + json.dumps({"ssh_keys": {"ed25519_private": text}}))
        assert calls == [["say", NO_KEY]]


def test_what_the_tenant_says_comes_after_what_the_cloud_says(guest):
    script = "#cloud-config\nruncmd: [echo {}]\n"
    (guest.work / "vendor-data").write_text(script.format("cloud"))
    _, ((_, _, of_tenant),) = guest.translate(user_data=script.format("tenant"))
    ((_, _, of_cloud),) = guest.translate_vendor_data(script.format("cloud"))
    assert Path(of_tenant).read_text() == "#!/bin/sh\necho tenant\n"
    assert Path(of_cloud).read_text() == "#!/bin/sh\necho cloud\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hostname: '-bad-'", 'hostname: the hostname "-bad-" is not valid: ignored'),
        ("hostname: a b", 'hostname: the hostname "a b" is not valid: ignored'),
        ("user: [a]", "user is neither a name nor a mapping: ignored"),
        ("users: [{name: Root}]", 'users: "Root" is not a valid user name: ignored'),
        ("write_files: [{path: relative}]", "write_files: entry 1 has no absolute path: ignored"),
        ("runcmd: echo", "runcmd is not a list: ignored"),
        ("chpasswd: x", "chpasswd is not a mapping: ignored"),
    ],
)
def test_what_makes_no_sense_is_said_and_left_out(guest, line, said):
    _, calls = guest.translate(user_data=f"#cloud-config\n{line}\n")
    assert calls == [["say", said]]


def test_user_data_of_other_kinds(guest):
    assert guest.translate(user_data=b"")[1] == []
    assert guest.translate(user_data=b"#cloud-config\n{}\n")[1] == []
    assert guest.translate(user_data=b"hello")[1] == [
        ["say", "user-data is neither a script (#!) nor #cloud-config: ignored"]
    ]
    _, calls = guest.translate(user_data=gzip.compress(b"#!/bin/sh\necho hi\n"))
    assert calls[0][:2] == ["keep_script", "user-data"]
    assert Path(calls[0][2]).read_bytes() == b"#!/bin/sh\necho hi\n"
    _, calls = guest.translate(user_data=b"#cloud-config\n- a\n- b\n")
    assert calls == [["say", "user-data is malformed and not applied: it is not a mapping of keys to values"]]
    assert guest.translate(user_data=b"\n")[1] == []  # nothing stays of what was there before


def test_binary_scalars_are_decoded(guest):
    content = base64.b64encode(bytes(range(256))).decode()
    guest.translate(user_data=f"#cloud-config\nwrite_files: [{{path: /x, content: !!binary {content}}}]\n")
    assert (guest.work / "user-data.content-1").read_bytes() == bytes(range(256))
