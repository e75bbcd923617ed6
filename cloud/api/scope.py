"""Who asks, and what of the cloud they may see. One place decides this, for every view and every reference."""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, QuerySet, Subquery, Value

from cloud.api.fields import called
from cloud.events.services import Actor
from cloud.problems import AdminsOnly, Forbidden, NotFound
from cloud.tenancy.models import Membership, Project, Role, Token, User

log = logging.getLogger(__name__)

RANK = {Role.VIEWER: 1, Role.MEMBER: 2, Role.ADMIN: 3}


def _any_project() -> "QuerySet[Project]":
    return Project.objects.annotate(role=Value(str(Role.ADMIN)))


def _projects_of(user: Any) -> "QuerySet[Project]":
    own = Membership.objects.filter(project=OuterRef("pk"), user=user).values("role")
    return Project.objects.annotate(role=Subquery(own)).filter(role__isnull=False)


_any_called, _own_called = called(_any_project), called(_projects_of)


@dataclass
class Scope:
    """A caller: a user, perhaps by a token that is narrower than the user; and the project of the path, if any."""

    user: User
    token: Token | None = None
    request_id: str = ""
    project: Project | None = None

    @property
    def is_cloud_admin(self) -> bool:
        """Whether this request has the powers of an admin of the cloud: a token for one project leaves them out."""
        return self.user.is_cloud_admin and (self.token is None or self.token.project_id is None)

    @property
    def is_read_only(self) -> bool:
        return self.token is not None and self.token.read_only

    @cached_property
    def actor(self) -> Actor:
        return Actor(self.user.username, user_id=self.user.pk, request_id=self.request_id)

    @property
    def caller(self) -> str:
        """The identity under which idempotency keys are unique."""
        return f"token:{self.token.pk}" if self.token else f"user:{self.user.pk}"

    def projects(self) -> QuerySet[Project]:
        """The projects that the caller may see, each with the caller's `role` in it."""
        visible = _any_project() if self.user.is_cloud_admin else _projects_of(self.user)
        if self.token and self.token.project_id:
            visible = visible.filter(pk=self.token.project_id)
        return visible

    def enter(self, reference: str) -> Project:
        """Make the project of a path the scope's own; raises NotFound also for one that may not be seen."""
        found = _any_called(reference) if self.user.is_cloud_admin else _own_called(reference, self.user.pk)
        narrowed_to = self.token and self.token.project_id
        if found is None or (narrowed_to and found.pk != narrowed_to):
            raise NotFound()
        self.project = found
        return found

    @property
    def role(self) -> str:
        """The caller's role in the scope's project."""
        return getattr(self.project, "role", "")

    @property
    def project_id(self) -> UUID:
        assert self.project is not None
        return self.project.pk

    def require_role(self, role: str) -> None:
        if RANK[Role(self.role)] < RANK[Role(role)]:
            raise Forbidden(f"In {self.project} you are {self.role}; this needs the role {role}.")

    def require_cloud_admin(self) -> None:
        if not self.is_cloud_admin:
            log.warning(
                "scope.refused_admin_function user=%s token=%s", self.user.username, self.token and self.token.pk
            )
            raise AdminsOnly("This is for admins of the cloud.")

    def require_writing(self) -> None:
        if self.is_read_only:
            raise Forbidden("This token is for reading only. Use another one.")
