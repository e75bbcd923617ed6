"""One table of what users give: the API refuses it with its line, or the guest applies all of it."""

import base64
import gzip
import json
import re
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

import pytest
import yaml

from compute import user_data
from compute.agent import nocloud
from tests.images.test_seed import Guest

SCRIPT = "#!/bin/sh\necho hi\n"
CONFIG = "#cloud-config\nruncmd: [echo hi]\n"


@pytest.fixture
def guest(guest_root: Path, tmp_path: Path) -> Guest:
    return Guest(guest_root, tmp_path)


def mime(*parts: tuple[str, str], charset: str = "us-ascii", compress: bool = False) -> str:
    message = MIMEMultipart()
    for kind, text in parts:
        inner = MIMEText(text, kind, charset)
        if compress:
            inner.set_payload(base64.encodebytes(gzip.compress(text.encode())).decode())
            inner.replace_header("Content-Transfer-Encoding", "base64")
        message.attach(inner)
    return message.as_string()


APPLIED = {
    "a script": SCRIPT,
    "a script after white space": f"\n  {SCRIPT}",
    "a script with a byte order mark": f"\ufeff{SCRIPT}",
    "a script with Windows line ends": SCRIPT.replace("\n", "\r\n"),
    "a script that speaks of MIME": f"{SCRIPT}# MIME-Version: 1.0\n",
    "a cloud-config": CONFIG,
    "a cloud-config after blank lines": f"\n\n{CONFIG}",
    "a cloud-config with a byte order mark": f"\ufeff{CONFIG}",
    "a cloud-config in capitals": CONFIG.replace("#cloud-config", "#Cloud-Config  # mine"),
    "a cloud-config with Windows line ends": CONFIG.replace("\n", "\r\n"),
    "a cloud-config of comments": "#cloud-config\n# nothing yet\n",
    "nothing": " \n",
    "parts in MIME": mime(("x-shellscript", SCRIPT), ("cloud-config", CONFIG)),
    "parts in MIME, as base64": mime(("x-shellscript", SCRIPT), ("cloud-config", CONFIG), charset="utf-8"),
    "parts in MIME, packed": mime(("x-shellscript", SCRIPT), ("cloud-config", CONFIG), compress=True),
    "parts in MIME that say nothing": mime(("plain", SCRIPT), ("plain", CONFIG)),
    "parts in MIME with a mark": f"\ufeff{mime(('plain', SCRIPT))}",
    "one part with its headers": f"Content-Type: text/cloud-config\nMIME-Version: 1.0\n\n{CONFIG}",
    "a boothook": "#cloud-boothook\n#!/bin/sh\ndate\n",
    "an archive": "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    #cloud-config\n    user: al\n"
    "- |\n  #!/bin/sh\n  date\n- type: text/cloud-boothook\n  content: |\n    #!/bin/sh\n    date\n",
    "aliases": "#cloud-config\nusers: [&a {name: bob}, {<<: *a, name: al}, {<<: [*a, {shell: /bin/sh}]}]\n",
    "binary in any lines": "#cloud-config\nwrite_files: [{path: /a, content: !!binary 'aG kK\n Cg=='}]\n",
    "keys in quotes": "#cloud-config\nssh_authorized_keys: ['sk-ssh-ed25519@openssh.com AAAA= ssh:']\n",
    "depth": f"#cloud-config\nruncmd: [{'[' * 3}a{']' * 3}]\n",
    # Every form that cloud-init's schema has for the keys that are known here.
    "bootcmd and runcmd": "#cloud-config\nbootcmd: [a, [b, c]]\nruncmd: [a, [b, c], null]\n",
    "users as a line": "#cloud-config\nusers: bob, al\n",
    "users as a list": "#cloud-config\nusers: [default, bob, {name: al}, [carl, dan]]\n",
    "users by name": "#cloud-config\nusers: {bob: {shell: /bin/sh}, al: true, carl: false, default: true}\n",
    "a default user": "#cloud-config\nuser: bob\nssh_authorized_keys: [ssh-rsa AAAA]\n",
    "a default user with more": "#cloud-config\nuser: {name: bob, uid: '1200', lock-passwd: false}\npassword: x\n",
    "groups as a line": "#cloud-config\ngroups: a, b\n",
    "groups as a list": "#cloud-config\ngroups: [a, {b: bob}, {c: [bob, al]}]\n",
    "groups by name": "#cloud-config\ngroups: {a: bob, b: [bob]}\n",
    "a user in groups": "#cloud-config\nusers: [{name: a, groups: 'b, c'}, {name: d, groups: {b: }}]\n",
    "passwords": "#cloud-config\nchpasswd: {expire: false, list: 'a:b'}\nssh_pwauth: 'yes'\n",
    "passwords as lists": "#cloud-config\nchpasswd: {expire: no, list: ['a:b'], users: [{name: a, type: RANDOM}]}\n",
    "files": "#cloud-config\nwrite_files: [{path: /a, encoding: gz+base64, content: x, append: true, owner: 'a:b'}]\n",
    "host names": "#cloud-config\nhostname: a\nfqdn: a.b\npreserve_hostname: false\n",
}
REFUSED = {
    "plain text": ("hello\n", 1, "nothing says what this is"),
    "base64": (base64.b64encode(SCRIPT.encode()).decode(), 1, "base64"),
    "base64 of gzip": (base64.b64encode(gzip.compress(SCRIPT.encode())).decode(), 1, "base64"),
    "base64 in lines": (base64.encodebytes(SCRIPT.encode() * 9).decode(), 1, "base64"),
    "64 KiB of nearly base64": ("a" * 16 + " " * 65_000 + "!", 1, "nothing says what this is"),
    "a template": (f"## template: jinja\n{CONFIG}", 1, "text/jinja2 is not supported"),
    "an include": ("#include\nhttp://x/y\n", 1, "text/x-include-url"),
    "an include, once": ("#include-once\nhttp://x/y\n", 1, "text/x-include-once-url"),
    "a part handler": ("#part-handler\n", 1, "text/part-handler"),
    "JSON patches": ("#cloud-config-jsonp\n[]\n", 1, "text/cloud-config-jsonp"),
    "an upstart job": ("#upstart-job\n", 1, "text/upstart-job"),
    "a mark and a fault": ("\ufeff#cloud-config\na: [\n", 3, ""),
    "a template's braces": ("#cloud-config\na: {{ b }}\nruncmd: [ls]\n", 2, "a key is plain text"),
    "a list as a key": ("#cloud-config\n? [a]\n: b\n", 2, "a key is plain text"),
    "a second document": ("#cloud-config\na: b\n---\nc: d\n", 3, "a second document"),
    "bad base64": ("#cloud-config\na: b\nc: !!binary 'x'\n", 3, "not base64"),
    "too deep": (f"#cloud-config\na:\n  {'[' * 65}{']' * 65}\n", 3, "nested more than 64 deep"),
    "an unknown alias": ("#cloud-config\na: b\nc: *d\n", 3, "*d names nothing"),
    "an alias of itself": ("#cloud-config\na: &d [*d]\n", 2, "*d names nothing"),
    "an unknown tag": ("#cloud-config\na: !vault x\n", 2, "the tag !vault"),
    "a zero byte": ('#cloud-config\nwrite_files:\n- path: /a\n  content: "a\\0b"\n', 4, "zero byte"),
    "a tab": ("#cloud-config\n\ta: b\n", 2, ""),
    "a list": ("#cloud-config\n- a\n", 2, "is a mapping"),
    "a misspelled key": ("#cloud-config\nhostname: a\npakages: [nginx]\n", 3, "perhaps packages is meant"),
    "a number for a list": ("#cloud-config\nruncmd: 5\n", 2, "runcmd is a list"),
    "a list for a mapping": ("#cloud-config\nchpasswd: [a]\n", 2, "chpasswd is a mapping"),
    "a list for a value": ("#cloud-config\ntimezone: [a]\n", 2, "timezone is a single value"),
    "a merge of text": ("#cloud-config\n<<: a\n", 2, "takes in a mapping"),
    "a key with a colon": ("#cloud-config\nssh_authorized_keys:\n- ssh-rsa A a\n- sk A ssh:\n", 4, "in quotes"),
    "a command with a colon": ("#cloud-config\nruncmd:\n- ls\n- awk -F: '{print}'\n", 4, "in quotes"),
    "a user's key": (
        "#cloud-config\nusers:\n- name: a\n  ssh_authorized_keys: [{a b: }]\n",
        4,
        "in quotes",
    ),
    "a template in MIME": (mime(("x-shellscript", SCRIPT), ("jinja2", "x")), 17, "text/jinja2"),
    "a fault in MIME": (mime(("x-shellscript", SCRIPT), ("cloud-config", "#cloud-config\n\na: [\n")), 20, ""),
    "a script in MIME that is none": (mime(("x-shellscript", "echo\n")), 9, "begins with #!"),
    "MIME without a boundary": ("MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nx\n", 1, "boundary"),
    "a fault in an archive": ("#cloud-config-archive\n- content: |\n    #cloud-config\n    a: [\n", 5, ""),
    "an archive that is none": ("#cloud-config-archive\na: b\n", 2, "a list of parts"),
    "an archive in an archive": (
        "#cloud-config-archive\n- |\n  #cloud-config-archive\n",
        3,
        "archive is not supported",
    ),
}


@pytest.mark.parametrize("text", APPLIED.values(), ids=APPLIED)
def test_what_is_taken_is_applied(text, guest):
    assert (user_data.fault(text, full=False), user_data.not_checked(text)) == (None, [])
    _, calls = guest.translate(user_data=nocloud.user_data({"user_data": text}).encode())
    assert [call for call in calls if call[0] == "say"] == []
    for name in ("SCRIPT", "CONFIG"):
        if globals()[name].strip("\n") in text.replace("\r", ""):
            assert calls != []


@pytest.mark.parametrize(("text", "line", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_applied_is_refused_with_its_line(text, line, words):
    found = user_data.fault(text, full=False)
    assert found is not None
    assert re.match(rf"Line {line}[:,] ", found), found
    assert words in found


@pytest.mark.parametrize("text", ["my_app: 5", "package-update: true", "runcmd:", "ntp: null", "<<: {a: 1}"])
def test_keys_of_others_older_spellings_and_empty_values_pass(text):
    assert user_data.fault(f"#cloud-config\n{text}\n", full=False) is None


FOR_CLOUD_INIT = {name: REFUSED[name][0] for name in (
    "a template", "an include", "an include, once", "a part handler", "JSON patches", "a template in MIME",
)} | {
    "a template in an archive": "#cloud-config-archive\n- type: text/jinja2\n  content: '{{ v1.region }}'\n",
    "a script of each boot": mime(("x-shellscript-per-boot", SCRIPT)),
}  # fmt: skip


@pytest.mark.parametrize("text", FOR_CLOUD_INIT.values(), ids=FOR_CLOUD_INIT)
def test_an_image_with_a_full_cloud_init_gets_what_only_that_reads(text):
    assert "by this image" in user_data.fault(text, full=False)
    assert user_data.fault(text, full=True) is None
    assert "not checked" in "".join(user_data.not_checked(text))
    given = nocloud.user_data({"user_data": text})
    assert given == text or yaml.safe_load(given)[-1]["type"] in text


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in FOR_CLOUD_INIT])
def test_what_is_wrong_in_every_guest_is_refused_for_all(name):
    text, line, words = REFUSED[name]
    found = user_data.fault(text, full=True)
    assert found.startswith(f"Line {line}")
    assert words in found


@pytest.mark.parametrize("name", [name for name in APPLIED if "MIME" in name and "speaks" not in name])
def test_parts_come_in_their_order_and_cloud_configs_over_each_other(name, guest):
    _, calls = guest.translate(user_data=nocloud.user_data({"user_data": APPLIED[name]}).encode())
    assert calls[0][:2] == ["keep_script", "user-data"]
    assert Path(calls[0][2]).read_text() == SCRIPT


@pytest.mark.parametrize("encoding", ["7bit", "8bit"])
@pytest.mark.parametrize("charset", ["", '; charset="us-ascii"', '; charset="utf-8"'])
def test_letters_beyond_ascii_are_those_that_were_written(encoding, charset):
    """People write such parts by hand: what a part says of itself is often wrong, and the message is UTF-8."""
    text = (
        'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n'
        f"Content-Type: text/cloud-config{charset}\nContent-Transfer-Encoding: {encoding}\n\n"
        "#cloud-config\nhostname: web  # für Anna\nruncmd: [[echo, äöü, 日本]]\n--b--\n"
    )
    assert user_data.fault(text, full=False) is None
    (entry,) = yaml.safe_load(nocloud.user_data({"user_data": text}))
    assert yaml.safe_load(entry["content"])["runcmd"] == [["echo", "äöü", "日本"]]
    wrong = text.replace("runcmd:", "runcmdd:")
    assert "Line 10: runcmdd" in str(user_data.fault(wrong, full=False))


def test_several_parts_of_each_kind(guest):
    text = mime(
        ("cloud-config", "#cloud-config\nhostname: one\nruncmd: [a]\n"),
        ("x-shellscript", "#!/bin/sh\r\necho 1\r\n"),
        ("x-shellscript", "#!/bin/sh\necho 2\n"),
        ("cloud-boothook", "#cloud-boothook\n#!/bin/sh\necho 0\n"),
        ("cloud-config", "#cloud-config\nhostname: two\n"),
    )
    _, calls = guest.translate(user_data=nocloud.user_data({"user_data": text}).encode())
    kept = {call[1]: Path(call[2]).read_text() for call in calls if call[0] == "keep_script"}
    assert kept == {
        "user-data": "#!/bin/sh\necho 1\n",
        "user-data.002": "#!/bin/sh\necho 2\n",
        "boothook.user-data.001": "#!/bin/sh\necho 0\n",
        "runcmd": "#!/bin/sh\na\n",
    }
    assert ["set_hostname", "two", ""] in calls


def test_one_bad_value_costs_its_entry_and_not_the_document(guest):
    """What comes past the API all the same (an older one) is said, and the rest applied."""
    text = "#cloud-config\n{{ a }}: b\nc: {{ d }}\nhostname: *h\nfqdn: web.a\n---\nsecond: document\n"
    _, calls = guest.translate(user_data=text.encode())
    said = [call[1] for call in calls if call[0] == "say"]
    assert [line for line in said if "line" in line] == [
        "user-data: line 2: a key must be plain text: ignored",  # { a }
        "user-data: line 2: a key must be plain text: ignored",  # {{ a }}
        "user-data: line 3: a key must be plain text: ignored",
        "user-data: line 4: unknown anchor h: ignored",
        "user-data: line 6: a second document: ignored",
    ]
    assert ["set_hostname", "web", "web.a"] in calls


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("420", "0644"), ("493", "0755"), ("0644", "0644"), ("'0644'", "0644"), ("'644'", "0644"), ("0o644", "0644"),
        ("'0o755'", "0755"), ("0x1ed", "0755"), ("0b110", "0006"), ("4_93", "0755"), ("420.0", "0644"), ("0", "0000"),
        ("1517", "2755"), ("null", "0644"),
    ],
)  # fmt: skip
def test_permissions_are_what_cloud_init_makes_of_them(written, expected, guest):
    _, calls = guest.translate(user_data=f"#cloud-config\nwrite_files: [{{path: /x, permissions: {written}}}]\n")
    assert [call[2] for call in calls if call[0] == "write_file"] == [expected]
    assert len(calls) == 1


@pytest.mark.parametrize(("written", "word"), [("permissions: rw", "0644 instead"), ("encoding: rot13", "plain text")])
def test_a_file_is_written_with_what_can_be_made_of_its_entry(written, word, guest):
    _, calls = guest.translate(user_data=f"#cloud-config\nwrite_files: [{{path: /x, content: a, {written}}}]\n")
    assert [call[0] for call in calls] == ["say", "write_file"]
    assert word in calls[0][1]
    assert calls[1][2:6] == ["0644", "root:root", "replace", ""]


@pytest.mark.parametrize(
    "character", ["\x80", "\x92", "\x85", "\x9f", "\u2028", "\ufeff", "\ufffe", "\uffff", "é", "😀", '"', "\\"]
)
def test_no_character_of_a_key_or_a_name_makes_meta_data_malformed(character, guest):
    keys = [f"ssh-rsa AAAA J{character}s laptop", "ssh-rsa BBBB b"]
    seed = {"instance_id": "i", "hostname": "web", "ssh_authorized_keys": keys}
    meta, _ = guest.translate(meta_data=nocloud.meta_data(seed))
    assert meta[0] == ["set_hostname", "web", ""]
    assert Path(meta[1][2]).read_bytes().decode() == "".join(f"{key}\n" for key in keys)


def test_as_yaml_is_json(guest):
    value = {"a": ["\x92\u2028é😀"]}
    assert json.loads(nocloud.as_yaml(value)) == value
