"""Names in addresses: /projects/demo/volumes/data, or just /demo/volumes/data, leads to the page about that volume, and
/demo/volumes to their list.

Pages have ids in their addresses, which stay when something is renamed. So names are looked at last, for what is no
address by itself, and in every list alike: what cannot be found there cannot be seen.
"""

from urllib.parse import quote

from django.db.models import Model
from django.http import HttpRequest
from django.urls import Resolver404, ResolverMatch, resolve

from cloud.api.scope import Scope
from cloud.pages import links
from cloud.pages.generic import ListPage

NAMES = ("name", "username")  # the columns that may hold what people call it
LENGTHS = {"projects": 3, "cloud": 2}  # parts of the address of a list


def path_meant(request: HttpRequest, scope: Scope) -> str:
    """Where the address leads to, "" for nowhere. Raises NotFound, Forbidden for lists that the viewer may not see."""
    parts = request.path.strip("/").split("/")
    parts = parts if parts[0] in LENGTHS else ["projects", *parts]
    whole = "/" + "/".join(parts)
    if whole != request.path and _is_page(whole, scope):
        return whole
    length = LENGTHS[parts[0]]
    the_list, own = "/" + "/".join(parts[:length]), parts[length:]
    match = _resolved(the_list)
    kind = getattr(match.func, "view_class", None) if match else None
    if not own or "\0" in own[0] or match is None or not (isinstance(kind, type) and issubclass(kind, ListPage)):
        return ""
    page = kind()
    page.setup(request, **match.kwargs)
    page.scope = scope
    page.enter(**match.kwargs)
    column = next((name for name in NAMES if name in {field.name for field in page.model._meta.get_fields()}), "pk")
    found = list(page.rows().filter(**{column: own[0]})[:2]) if column != "pk" else []
    if not found:
        return ""
    path = _page_about(page, the_list, found[0], own[1:]) if len(found) == 1 else ""
    return path or f"{the_list}?q={quote(own[0])}"


def _is_page(path: str, scope: Scope) -> bool:
    """Whether there is a page, of a project that the viewer may see if of any. It says itself who may see it."""
    match = _resolved(path)
    if match is None or not hasattr(match.func, "view_class") or "\0" in path:
        return False
    name = match.kwargs.get("project")
    return name is None or scope.projects().filter(name=name).exists()


def _page_about(page: ListPage, the_list: str, item: Model, rest: list[str]) -> str:
    """Its own page, or one below that; the page that links lead to, where it has none."""
    path = "/".join((the_list, str(item.pk), *rest))
    project = page.scope.project.name if page.scope.project else ""
    return path if _resolved(path) else links.of(page.key, item.pk, project, for_admins=page.for_cloud_admins)


def _resolved(path: str) -> ResolverMatch | None:
    try:
        return resolve(path)
    except Resolver404:
        return None
