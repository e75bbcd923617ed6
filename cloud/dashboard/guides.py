"""The guides of docs/ as pages of the dashboard. Headings get the anchors that GitHub gives them, too."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

from cloud.api.scope import Scope

DOCS = Path(__file__).resolve().parents[2] / "docs"


@dataclass(frozen=True)
class Guide:
    """A file of docs/, by its name without the ending."""

    name: str
    title: str
    about: str
    icon: str
    for_cloud_admins: bool = False


GUIDES = {
    guide.name: guide
    for guide in (
        Guide("instances", "Instances", "Launching, logging in, consoles, what can be done, metrics", "server"),
        Guide("images", "Images", "Bringing machines in, taking them away", "cube"),
        Guide("storage", "Volumes", "Types, growing, snapshots, clones, backups", "disk"),
        Guide("networks", "Networks", "Reaching instances, several networks, IPv6, when nothing answers", "network"),
        Guide("projects", "Projects and accounts", "Members, quota, costs, trash, your account, tokens", "folder"),
        Guide("api", "REST API", "Conventions of the API", "book"),
        Guide("operating", "Operating a cloud", "Hosts, upgrades, backups, security", "rack", for_cloud_admins=True),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    level: int  # 2 or 3

    @property
    def is_top(self) -> bool:
        return self.level == 2


@dataclass(frozen=True)
class Rendered:
    title: str
    html: SafeString
    sections: tuple[Section, ...]


@cache
def rendered(name: str) -> Rendered:
    """A guide as HTML without its first heading. Its text is ours; HTML in it is shown, not used."""
    tokens = _MARKDOWN.parse((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    title, sections = "", []
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            text = _plain(tokens[index + 1])
            if token.tag == "h1":
                title = text
            else:
                sections.append(Section(anchor_of(text), text, int(token.tag[1:])))
                token.attrSet("id", anchor_of(text))
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        elif token.type == "inline":
            token.children = _without_dead_links(token.children or [], name)
    body = tokens[3:] if tokens and tokens[0].tag == "h1" else tokens
    html = _MARKDOWN.renderer.render(body, _MARKDOWN.options, {})
    return Rendered(title, mark_safe(html), tuple(sections))  # noqa: S308


def anchor_of(heading: str) -> str:
    """What GitHub calls it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _plain(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [])


def _without_dead_links(tokens: Sequence[Token], name: str) -> list[Token]:
    """Links to other guides lead there. Others, to files that are not served or to other hosts, are only words."""
    kept, is_kept = [], True
    for token in tokens:
        if token.type == "link_open":
            guide, _, anchor = str(token.attrGet("href") or "").partition("#")
            found = GUIDES.get(guide.removesuffix(".md") or name)
            is_kept = found is not None
            if found is not None:
                token.attrSet("href", address(found.name, anchor))
        if is_kept or token.type not in ("link_open", "link_close"):
            kept.append(token)
    return kept


def guides_for(scope: Scope) -> list[Guide]:
    """Those that a viewer may read."""
    return [guide for guide in GUIDES.values() if scope.is_cloud_admin or not guide.for_cloud_admins]


def address(name: str, anchor: str = "") -> str:
    return reverse("guide", args=[name]) + (f"#{anchor}" if anchor else "")


def _code(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return render_to_string("pages/parts/code.html", {"text": tokens[index].content.rstrip("\n")})


def _table_begins(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<div class="scroll" role="region" aria-label="Table" tabindex="0"><table class="table">'


def _table_ends(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return "</table></div>"


def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    rules = {"code_block": _code, "fence": _code, "table_open": _table_begins, "table_close": _table_ends}
    for name, rule in rules.items():
        markdown.add_render_rule(name, rule)
    return markdown


_MARKDOWN = _markdown()
