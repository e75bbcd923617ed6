"""HTML as it is read: whitespace that a browser does not show says nothing about a page."""

import re
from typing import Any

from django.test import Client

BLOCKS = (
    "html|head|body|meta|link|title|script|main|header|nav|section|article|aside|div|p|h[1-6]|ul|ol|li|dl|dt|dd|table|thead|"
    "tbody|tr|th|td|form|fieldset|legend|details|summary|dialog|option|select|br|hr"
)
KEPT = re.compile(r"(<(?:pre|textarea)\b.*?</(?:pre|textarea)>)", re.DOTALL)
AT_BLOCKS = re.compile(rf" ?(</?(?:{BLOCKS})\b[^>]*>) ?")
FLEXIBLE = re.compile(r'(<\w+ class="(?:pill|button|chip|row)\b[^>]*>) ')


def as_read(html: str) -> str:
    """One space for any whitespace; none at the borders of blocks, nor at those of flexible boxes."""
    return "".join(part if KEPT.fullmatch(part) else _collapse(part) for part in KEPT.split(html))


def _collapse(html: str) -> str:
    html = re.sub(r"[ \t\r\n\f]+", " ", html)
    html = AT_BLOCKS.sub(r"\1", html)
    return FLEXIBLE.sub(r"\1", html).replace(" </", "</").replace(" >", ">")


class Reader(Client):
    """A browser without JavaScript that gets pages as they are read."""

    def request(self, **request: Any) -> Any:
        response = super().request(**request)
        if response.get("Content-Type", "").startswith("text/html") and not response.streaming:
            response.content = as_read(response.content.decode()).encode()
        return response
