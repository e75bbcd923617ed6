"""Who uses the cloud: users, the projects that own everything, roles, API tokens and quotas."""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac
from django.utils.deconstruct import deconstructible

USERNAME_PATTERN = r"^[a-z0-9][a-z0-9._@-]{0,62}$"
NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"


@deconstructible(path="django.core.validators.RegexValidator")  # to migrations it is the same
class WholeText(RegexValidator):
    """A pattern for the whole of a text: `$` would let a newline at its end pass."""

    def __call__(self, value: Any) -> None:
        if str(value).endswith("\n"):
            raise ValidationError(self.message, code=self.code, params={"value": value})
        super().__call__(value)


validate_name = WholeText(
    NAME_PATTERN, "Use 1 to 63 lower-case letters, digits and hyphens; begin with a letter, do not end with a hyphen."
)
validate_username = WholeText(USERNAME_PATTERN)


class NameField(models.CharField):
    """A resource's name: a DNS label that begins with a letter."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_length", 63)
        options.setdefault("validators", [validate_name])
        super().__init__(**options)


class Role(models.TextChoices):
    """What a member may do in a project; each role includes the ones before it."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


class UserQuerySet(BaseUserManager["User"]):
    def create_user(self, username: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(username=username, **fields)
        user.set_password(password)
        user.save()
        return user


class User(AbstractBaseUser):
    """A person or a robot that signs in."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    username = models.CharField(max_length=63, unique=True, validators=[validate_username])
    email = models.EmailField(blank=True)
    full_name = models.CharField(max_length=120, blank=True)
    is_active = models.BooleanField(default=True)
    is_cloud_admin = models.BooleanField(default=False)
    session_version = models.PositiveIntegerField(default=0)  # sessions of an earlier one are over
    notifications_seen_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now())

    USERNAME_FIELD = "username"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserQuerySet()

    def __str__(self) -> str:
        return self.username

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What a session must prove: it ends with the password, and with the session version."""
        value = f"{self.password}:{self.session_version}"
        return salted_hmac("cloud.tenancy.session", value, secret=secret, algorithm="sha256").hexdigest()


class BrowserSession(models.Model):
    """Where a user is signed in. The session itself is Django's."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="browser_sessions")
    session_key = models.CharField(max_length=40, unique=True)
    address = models.CharField(max_length=64)
    browser = models.CharField(max_length=255)
    proof = models.CharField(max_length=64, default="")  # the user's session hash then: another one ends it
    created_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())


def default_limits() -> dict:
    return dict(settings.DEFAULT_QUOTA)


class Project(models.Model):
    """A tenant: the owner of instances, volumes, networks and of everything else that is not the cloud's."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = NameField(unique=True)
    description = models.CharField(max_length=500, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    members = models.ManyToManyField(User, through="Membership", related_name="projects")

    class Meta:
        indexes = [GinIndex(fields=["labels"], name="project_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """One user's role in one project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role.choices)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="one_role_per_project_and_user"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role_is_known"),
        ]


class Quota(models.Model):
    """A project's limits by kind (null: no limit). Its row is the lock under which usage is summed."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, primary_key=True, related_name="quota")
    limits = models.JSONField(default=default_limits)


class QuotaRequest(models.Model):
    """What a project asks of the cloud's admins: larger limits, and why."""

    class State(models.TextChoices):
        OPEN = "open"
        APPROVED = "approved"
        DECLINED = "declined"
        WITHDRAWN = "withdrawn"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="quota_requests")
    kinds = ArrayField(models.CharField(max_length=40))  # what is asked for, sorted
    limits = models.JSONField()  # kind → the limit asked for
    before = models.JSONField()  # kind → the limit as it was then
    reason = models.CharField(max_length=1000, blank=True)
    requested_by = models.CharField(max_length=80)
    requested_by_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    state = models.CharField(max_length=9, choices=State.choices, default=State.OPEN)
    note = models.CharField(max_length=1000, blank=True)  # what the admin answers
    decided_by = models.CharField(max_length=80, blank=True)
    decided_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "kinds"], condition=Q(state="open"), name="one_open_request_per_project_and_kinds"
            ),
            models.CheckConstraint(
                condition=Q(state="open", decided_at=None) | (~Q(state="open") & Q(decided_at__isnull=False)),
                name="decided_request_has_a_time",
            ),
        ]
        indexes = [models.Index(fields=["-created_at", "-id"], name="quota_request_latest")]

    def __str__(self) -> str:
        return ", ".join(f"{self.limits[kind]} {kind}" for kind in self.kinds)


class Token(models.Model):
    """An API token: shown once, kept as its SHA-256; optionally for one project only, or for reading only."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = NameField()
    digest = models.CharField(max_length=64, unique=True)
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.CASCADE, related_name="tokens")
    read_only = models.BooleanField(default=False)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="token_name_is_unique_per_user")]

    def __str__(self) -> str:
        return self.name


class SavedView(models.Model):
    """One user's own way to look at a list of a project: a name for a filter and an order."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="saved_views")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=500, blank=True)  # of the list's page: status=running&sort=name
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "project", "name"], name="saved_view_name_is_unique"),
        ]

    def __str__(self) -> str:
        return self.name
