"""User data, looked at while its writer can mend it: in the guest a fault would be a line in a log.

What passes here is applied by the guest images of this cloud and by cloud-init; what one of them would pass over in
silence is refused with its line. What only a full cloud-init knows passes for images that are said to have one.
"""

import binascii
import re
from collections.abc import Iterator

import yaml

from compute import cloud_config, multipart
from compute.multipart import Part, Unreadable, without_mark

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_DEPTH = 64
YAML_TAGS = "tag:yaml.org,2002:"
BINARY = f"{YAML_TAGS}binary"
MERGE = f"{YAML_TAGS}merge"

SCRIPT, CLOUD_CONFIG, ARCHIVE, BOOTHOOK = (
    "text/x-shellscript", "text/cloud-config", "text/cloud-config-archive", "text/cloud-boothook",
)  # fmt: skip
NEEDS_CLOUD_INIT = "is not supported by this image: write out what it would become, or take one with a full cloud-init"
NOT_SUPPORTED = "is not supported: write out what it would become"
# First characters → what it is, as cloud-init tells them apart: in any case, after white space. The longest wins.
STARTS = {
    "#!": SCRIPT,
    "#cloud-config": CLOUD_CONFIG,
    "#cloud-config-archive": ARCHIVE,
    "#cloud-boothook": BOOTHOOK,
    "#cloud-config-jsonp": "text/cloud-config-jsonp",
    "#include": "text/x-include-url",
    "#include-once": "text/x-include-once-url",
    "#part-handler": "text/part-handler",
    "#upstart-job": "text/upstart-job",
    "## template: jinja": "text/jinja2",
}
FOR_CLOUD_INIT = frozenset({
    "text/cloud-config-jsonp", "text/x-include-url", "text/x-include-once-url", "text/part-handler", "text/jinja2",
    "text/x-shellscript-per-boot",
})  # fmt: skip
# The others that a part may be declared as, with what they come to.
ALIASES = {
    "text/x-shellscript-per-once": SCRIPT,
    "text/x-shellscript-per-instance": SCRIPT,
    "text/x-sh": SCRIPT,
    "application/x-sh": SCRIPT,
    "application/x-shellscript": SCRIPT,
}
# Where a colon that nobody meant, at the end of a key's comment or in a command, costs the entry.
LISTS_OF_TEXT = ("ssh_authorized_keys", "ssh-authorized-keys", "runcmd", "bootcmd")
WHAT_IT_MAY_BE = "a script (its first line begins with #!) or a document (its first line is #cloud-config)"


class Fault(Exception):
    """`args`: words without a line; `line` counts from 1."""

    def __init__(self, words: str, line: int) -> None:
        super().__init__(words)
        self.line = line


def kind_of(text: str) -> str:
    """What a text is by its first characters: a content type, or ""."""
    start = without_mark(text).lstrip()[:40].lower()
    return next((STARTS[words] for words in sorted(STARTS, key=len, reverse=True) if start.startswith(words)), "")


def fault(text: str, *, full: bool) -> str | None:
    """What is wrong with user data, in words with a line; None when a guest applies all of it.

    `full`: its image has a full cloud-init. What is for that alone is not looked into.
    """
    try:
        for part in _parts(text):
            _check_part(part, full=full)
    except (Fault, Unreadable) as found:
        return f"Line {found.line}{'' if str(found).startswith(',') else ': '}{found}."
    return None


def not_checked(text: str) -> list[str]:
    """What of valid user data only a full cloud-init reads, in words: its faults are told by the guest alone."""
    parts = list(_parts(text))
    parts += [inner for part in parts if _kind(part) == ARCHIVE for inner in _archived(_document(part.text))]
    found = {_kind(part) for part in parts} & FOR_CLOUD_INIT
    return [f"{kind} in its user data is given to the guest as it is, and is not checked." for kind in sorted(found)]


def _parts(text: str) -> Iterator[Part]:
    """The parts of user data; those of an archive are not told apart. Raises Unreadable."""
    if multipart.is_multipart(text):
        yield from multipart.parts(text)
    elif without_mark(text).strip():
        yield Part(type="", text=without_mark(text), line=1)


def _kind(part: Part) -> str:
    return ALIASES.get(part.type, part.type) or kind_of(part.text)


def _check_part(part: Part, depth: int = 0, *, full: bool) -> None:
    kind = _kind(part)
    first = part.line_of(1 + len(part.text) - len(part.text.lstrip("\n")))
    try:
        if kind == CLOUD_CONFIG:
            _check_mapping(_document(part.text))
        elif kind == ARCHIVE and depth == 0:
            for inner in _archived(_document(part.text)):
                _check_part(inner, depth + 1, full=full)
        elif kind == SCRIPT and not part.text.lstrip().startswith("#!"):
            raise Fault("a script begins with #! and its interpreter, such as #!/bin/sh", 1)
        elif not kind:
            raise Fault(_unknown(part.text), 1)
        elif kind in FOR_CLOUD_INIT:
            if not full:
                raise Fault(f"{kind} {NEEDS_CLOUD_INIT}", 1)
        elif kind not in (SCRIPT, BOOTHOOK):
            raise Fault(f"{kind} {NOT_SUPPORTED}", 1)
    except Fault as found:
        raise Fault(str(found), part.line_of(found.line) if found.line > 1 else first) from None


def _unknown(text: str) -> str:
    bare = "".join(text.split())
    if len(bare) % 4 == 0 and re.fullmatch(r"[A-Za-z0-9+/]{16,}={0,2}", bare):
        return f"this looks like base64: give the text itself, {WHAT_IT_MAY_BE}"
    return f"nothing says what this is; user data is {WHAT_IT_MAY_BE}"


def _document(text: str) -> yaml.Node | None:
    """The one document of a YAML text, without cycles and not too deep; None when it is empty."""
    try:
        _check_events(text)
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        words = problem.problem or "this is not YAML"
        raise Fault(f", column {mark.column + 1}: {words}" if mark else words, mark.line + 1 if mark else 1) from None
    except yaml.YAMLError as problem:  # a character that YAML does not know
        line = text.count("\n", 0, getattr(problem, "position", 0) or 0) + 1
        raise Fault(f"it is not YAML: {problem.args[-1] if problem.args else problem}", line) from None


def _check_events(text: str) -> None:
    """Look at one event after the other: nothing is built, so depth and aliases cost nothing."""
    known: set[str] = set()
    opened: list[str | None] = []
    documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise Fault("a second document begins here, and only one is read", line)
        elif isinstance(event, yaml.AliasEvent) and event.anchor not in known:
            raise Fault(f"the alias *{event.anchor} names nothing that was written before it", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            if anchor := opened.pop():
                known.add(anchor)
        elif isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent):
            if len(opened) > MAX_DEPTH:
                raise Fault(f"this is nested more than {MAX_DEPTH} deep", line)
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append(event.anchor)
            elif event.anchor:
                known.add(event.anchor)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _check_mapping(root: yaml.Node | None) -> None:
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise Fault("cloud-config is a mapping, such as “hostname: web”", _line(root))
    for key, value in root.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE and (words := cloud_config.fault(key.value, value)):
            raise Fault(words, _line(key))
    for node in _nodes(root):
        if not node.tag.startswith(YAML_TAGS):
            raise Fault(f"the tag {node.tag} is not known", _line(node))
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                _check_entry(key, value)


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Each node once, however often aliases name it, in the order of the text."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)


def _check_scalar(node: yaml.ScalarNode) -> None:
    if "\0" in node.value:
        raise Fault("a text with a zero byte in it: write it as !!binary in base64", _line(node))
    if node.tag == BINARY:
        try:
            binascii.a2b_base64(node.value.encode("ascii"))
        except ValueError:
            raise Fault("what follows !!binary is not base64", _line(node)) from None


def _check_entry(key: yaml.Node, value: yaml.Node) -> None:
    if not isinstance(key, yaml.ScalarNode):
        raise Fault("a key is plain text (is this the {{ name }} of a template?)", _line(key))
    if key.tag == MERGE:
        merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if not all(isinstance(one, yaml.MappingNode) for one in merged):
            raise Fault("<< takes in a mapping, or a list of mappings", _line(value))
    if key.value in LISTS_OF_TEXT and isinstance(value, yaml.SequenceNode):
        for one in value.value:
            if isinstance(one, yaml.MappingNode):
                raise Fault(f"put this entry of {key.value} in quotes: its colon makes it a mapping", _line(one))


def _archived(root: yaml.Node | None) -> Iterator[Part]:
    """The parts of a `#cloud-config-archive`: texts, or mappings with `content` and perhaps `type`."""
    if root is not None and not isinstance(root, yaml.SequenceNode):
        raise Fault("an archive is a list of parts", _line(root))
    for entry in root.value if root is not None else []:
        fields = {"content": entry}
        if isinstance(entry, yaml.MappingNode):
            fields = {key.value: value for key, value in entry.value if isinstance(key, yaml.ScalarNode)}
        content, declared = fields.get("content"), fields.get("type")
        if not isinstance(content, yaml.ScalarNode) or not isinstance(declared, yaml.ScalarNode | None):
            raise Fault("a part of an archive is a text, or a mapping with content and type", _line(entry))
        kind = declared.value if declared and declared.value not in multipart.UNTYPED else ""
        block = content.style in ("|", ">")
        yield Part(kind, content.value, _line(content) + block, encoded=not block)
