"""Settings of the control plane: the same code everywhere; what differs comes from the environment."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from cloud import server_addresses

BASE_DIR = Path(__file__).resolve().parent.parent
DAY = 24 * 3600


PUBLIC_URL = os.environ.get("PILEUS_URL", "http://127.0.0.1:8080").rstrip("/")
EMBEDDED = os.environ.get("PILEUS_EMBEDDED") == "1"
SECRET_KEY = os.environ.get("PILEUS_SECRET_KEY", "")  # there is no default: Django refuses whatever needs one
DEBUG = False
_hosts = {urlsplit(PUBLIC_URL).hostname or "127.0.0.1", "localhost", "127.0.0.1", "[::1]"}
ALLOWED_HOSTS = sorted(_hosts | set(filter(None, os.environ.get("PILEUS_ALLOWED_HOSTS", "").split(","))))
TRUSTED_PROXIES = os.environ.get("PILEUS_TRUSTED_PROXIES", "")  # whose X-Forwarded-For counts
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
_secure = PUBLIC_URL.startswith("https:")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "csp",
    "pgtrigger",
    "cloud.events",
    "cloud.operations",
    "cloud.tenancy",
    "cloud.hosts",
    "cloud.costs",
    "cloud.api",
    "storage",
    "network",
    "compute",
    "cloud.pages",
    "cloud.dashboard",
    "cloud.embedded",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
]
MIDDLEWARE = [
    "cloud.api.middleware.RequestContext",
    "cloud.api.middleware.HeadCheck",
    "cloud.api.addresses.ClientAddress",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "cloud.api.middleware.Problems",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "cloud.pages.limits.PageLimits",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "cloud.urls"
WSGI_APPLICATION = "cloud.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

_database = server_addresses.database(
    os.environ.get("DATABASE_URL", "postgresql://pileus@127.0.0.1/pileus"),
    os.environ.get("PILEUS_DATABASE_PASSWORD", ""),
)
DATABASES = {
    "default": {
        "ENGINE": "cloud.database",
        **_database,
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "application_name": os.environ.get("PILEUS_PROCESS", "pileus"),
            "connect_timeout": 3,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,  # ms: what was sent into a broken network is given up
            "options": "-c statement_timeout=5s -c idle_in_transaction_session_timeout=10s -c timezone=UTC"
            " -c plan_cache_mode=force_generic_plan",
            **_database["OPTIONS"],
        },
    }
}
# For migrations, which run as the owner of all tables: the role that everything else runs as (cloud/events/role.py).
DATABASE_ROLE = os.environ.get("PILEUS_DATABASE_ROLE", "")
DATABASE_ROLE_PASSWORD = os.environ.get("PILEUS_DATABASE_ROLE_PASSWORD", "")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
AUTH_USER_MODEL = "tenancy.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "cloud.tenancy.pages.sign_in.AccountAdapter"
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*"]
MFA_ADAPTER = "cloud.tenancy.second_factor.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_TOLERANCE = 1  # steps of 30 s that a device's clock may be off

# Single sign-on by OpenID Connect, where the operator has a provider.
SINGLE_SIGN_ON = {
    "url": os.environ.get("PILEUS_OIDC_URL", "").rstrip("/"),
    "client_id": os.environ.get("PILEUS_OIDC_CLIENT_ID", ""),
    "secret": os.environ.get("PILEUS_OIDC_CLIENT_SECRET", ""),
    "name": os.environ.get("PILEUS_OIDC_NAME", "single sign-on"),
    "makes_users": os.environ.get("PILEUS_OIDC_MAKES_USERS") == "1",  # or only those that are known may come in
}
if SINGLE_SIGN_ON["url"]:  # 3 MiB in every process
    INSTALLED_APPS.append("allauth.socialaccount.providers.openid_connect")
SOCIALACCOUNT_ADAPTER = "cloud.tenancy.pages.single_sign_on.Adapter"
SOCIALACCOUNT_REQUESTS_TIMEOUT = 5

SESSION_COOKIE_AGE = 14 * DAY
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _secure
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "cloud.pages.refusals.csrf_failure"
SECURE_HSTS_SECONDS = 365 * DAY if _secure else 0
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _secure else None
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    },
}

STATIC_URL = "static/"
STATIC_ROOT = Path(os.environ.get("PILEUS_STATIC_ROOT", BASE_DIR / "var" / "static"))
WHITENOISE_MAX_AGE = DAY  # a changed file has another URL (`{% asset %}`)
DATA_UPLOAD_MAX_MEMORY_SIZE = None  # every body is limited before that: `HeadCheck`, and web's worker
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]  # nothing goes to the disk
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
IMAGE_MAX_GIB = int(os.environ.get("PILEUS_IMAGE_MAX_GIB", "100"))  # that one may be sent, or fetched
IMAGE_MAX_DISK_GIB = int(os.environ.get("PILEUS_IMAGE_MAX_DISK_GIB", "2048"))  # as large as a guest may see its disk
IMAGE_FETCH_SECONDS = int(os.environ.get("PILEUS_IMAGE_FETCH_SECONDS", "7200"))  # for one from a URL
IMAGE_EXPORT_HOURS = int(os.environ.get("PILEUS_IMAGE_EXPORT_HOURS", "24"))  # that one can be downloaded
IMAGE_STORE_STARTS = int(os.environ.get("PILEUS_IMAGE_STORE_STARTS", "4"))  # hosts that fetch one there at once; 0: any
VOLUME_MAX_LAYERS = max(3, int(os.environ.get("PILEUS_VOLUME_MAX_LAYERS", "32")))  # beyond that they are merged
IMAGE_URLS = {  # which addresses may be fetched from, beside those of the internet
    "allow_private": os.environ.get("PILEUS_IMAGE_URLS_PRIVATE") == "1",
    "allow": list(filter(None, os.environ.get("PILEUS_IMAGE_URLS_ALLOW", "").split(","))),
    "deny": list(filter(None, os.environ.get("PILEUS_IMAGE_URLS_DENY", "").split(","))),
}
IMAGE_STORE, BACKUP_STORE = (  # each a folder (a Path), or a bucket's address (a str)
    server_addresses.store(variable, os.environ.get(variable, ""), BASE_DIR / "var" / folder)
    for variable, folder in (("PILEUS_IMAGE_STORE", "images"), ("PILEUS_BACKUP_STORE", "backups"))
)
IMAGE_UPLOADS = os.environ.get("PILEUS_IMAGE_UPLOADS", "")  # a folder; where it is not said, one in the store
if isinstance(IMAGE_STORE, str):
    IMAGE_UPLOADS = IMAGE_UPLOADS or str(BASE_DIR / "var" / "images" / "uploads")
_s3_endpoint = server_addresses.s3(os.environ.get("PILEUS_S3_ENDPOINT", ""))
S3 = {  # how buckets are reached
    "endpoint": _s3_endpoint,
    "region": os.environ.get("PILEUS_S3_REGION") or "us-east-1",
    "path_style": (os.environ.get("PILEUS_S3_PATH_STYLE") or ("1" if _s3_endpoint else "0")) == "1",
    "access_key": os.environ.get("PILEUS_S3_ACCESS_KEY", ""),  # "": botocore looks where AWS's programs do
    "secret_key": os.environ.get("PILEUS_S3_SECRET_KEY", ""),
}
BACKUP_KEY = os.environ.get("PILEUS_BACKUP_KEY", "")  # backups are encrypted under it; "": under the secret key

REDIS_URL = server_addresses.redis(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), os.environ.get("PILEUS_REDIS_PASSWORD", "")
)
HOST_REDIS_URL = server_addresses.redis(
    os.environ.get("PILEUS_HOST_REDIS_URL") or server_addresses.without_credentials(REDIS_URL),
    variable="PILEUS_HOST_REDIS_URL",
)
STREAMS_SOCKET = os.environ.get("PILEUS_STREAMS_SOCKET", "")

CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_TRANSPORT = "cloud.broker:Transport"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_TASK_ACKS_LATE = False
CELERY_DB_REUSE_MAX = (
    2**31
)  # a connection for each task would cost more than most tasks, and hide the worker from /readyz
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = 4
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 10,
    "socket_connect_timeout": 0.5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "operations.sweep", "schedule": 2.0},
    "note-silence": {"task": "hosts.note_silence", "schedule": 2.0},
    "limit-connections": {"task": "hosts.limit_connections", "schedule": 5.0},
    "reconcile": {"task": "hosts.reconcile", "schedule": 10.0},
    "look": {"task": "operations.look", "schedule": 60.0},
    "tidy": {"task": "api.tidy", "schedule": 3600.0},
    "empty-trash": {"task": "api.empty_trash", "schedule": 600.0},
    "warn-of-budgets": {"task": "costs.warn", "schedule": 900.0},
    "tend-buckets": {"task": "storage.tend_buckets", "schedule": 60.0},
    "tidy-images": {"task": "storage.tidy", "schedule": 600.0},
    "back-up": {"task": "storage.back_up", "schedule": 60.0},
    "tidy-backups": {"task": "storage.tidy_backups", "schedule": 600.0},
    "flatten": {"task": "storage.flatten", "schedule": 600.0},
    "pack-samples": {"task": "compute.pack_samples", "schedule": 300.0},
}

# For how many days what grows by itself is kept (docs/operating.md, “What is kept how long”).
KEEP_EVENTS_DAYS = max(30, int(os.environ.get("PILEUS_KEEP_EVENTS_DAYS", "400")))
KEEP_EVENTS_OF_PROJECT = int(os.environ.get("PILEUS_KEEP_EVENTS_OF_PROJECT", "1000000"))
KEEP_OPERATIONS_DAYS = min(KEEP_EVENTS_DAYS, int(os.environ.get("PILEUS_KEEP_OPERATIONS_DAYS", "90")))
KEEP_FAILED_LAUNCHES_DAYS = int(os.environ.get("PILEUS_KEEP_FAILED_LAUNCHES_DAYS", "30"))

HEARTBEAT_SECONDS = 10
UNREACHABLE_AFTER_SECONDS = 3 * HEARTBEAT_SECONDS + 5
ORDER_LEASE_SECONDS = 60
CURRENCY = os.environ.get("PILEUS_CURRENCY", "EUR")  # of prices, budgets and costs
PLACEMENT_STRATEGY = os.environ.get("PILEUS_PLACEMENT", "pack")  # or "spread"
VCPU_OVERCOMMIT = float(os.environ.get("PILEUS_VCPU_OVERCOMMIT", "4"))
DRILL_DAYS = float(os.environ.get("PILEUS_DRILL_DAYS", "30"))  # between two restore drills of a volume; 0: none
TRASH_HOURS = float(os.environ.get("PILEUS_TRASH_HOURS", "24"))  # 0: no trash
NETWORK_MTU = int(os.environ.get("PILEUS_NETWORK_MTU", "1450"))  # 1500 less what VXLAN adds
DEFAULT_NETWORKS = os.environ.get("PILEUS_DEFAULT_NETWORKS", "10.128.0.0/9")  # each project's first one is a /24 of it
PUBLISH_ON_LOOPBACK = EMBEDDED  # on a machine of one's own, 127.0.0.1 is a place to reach guests
ALLOW_EMULATION = EMBEDDED or os.environ.get("PILEUS_ALLOW_EMULATION") == "1"

# The default limits of a new project; null means no limit.
DEFAULT_QUOTA = {
    "instances": 20,
    "vcpus": 40,
    "memory_mib": 40 * 1024,
    "disk_gib": 1000,
    "keypairs": 50,
    "volumes": 50,
    "volume_gib": 1000,
    "snapshots": 50,
    "backups": 500,
    "backup_gib": 1000,
    "images": 20,
    "image_gib": 100,
    "networks": 10,
    "subnets": 20,
    "ports": 100,
    "floating_ips": 10,
    "port_forwards": 50,
    "security_groups": 20,
    "security_group_rules": 200,
    "routers": 5,
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "cloud.api.authentication.TokenAuthentication",
        "cloud.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["cloud.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "cloud.api.schema.AutoSchema",
    "EXCEPTION_HANDLER": "cloud.api.translate.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
API_RATE_PER_SECOND = float(os.environ.get("PILEUS_API_RATE", "50"))
API_BURST = int(os.environ.get("PILEUS_API_BURST", "200"))
API_MAX_BODY_BYTES = 1024 * 1024
API_MAX_DEPTH = 32

SPECTACULAR_SETTINGS = {
    "TITLE": "Pileus",
    "DESCRIPTION": "The REST API of Pileus, an IaaS cloud.",
    "VERSION": "v1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "RoleEnum": "cloud.tenancy.models.Role",
        "KindEnum": "compute.consoles.KINDS",
        "ImageSourceKindEnum": "storage.api.image_fields.SOURCES",
        "ImageFormatEnum": "storage.api.image_fields.FORMATS",
        "ImageExportFormatEnum": "storage.models.imports.ImageExport.Format",
        "ImageFileRoleEnum": ["kernel", "initrd", "disk", "cdrom"],
        "SeenPowerEnum": "compute.models.Power",
        "WantedPowerEnum": ["running", "stopped"],
        "InstanceWantedPowerEnum": "compute.models.WISHES",
        "InstanceStatusEnum": "compute.status.STATUSES",
        "NetworkStatusEnum": "network.status.STATUSES",
        "ProtocolEnum": ["tcp", "udp"],
        "DiagnosedProtocolEnum": "network.doctor.hops.ASKABLE",
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "cloud.logs.formatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django.request": {"level": "ERROR"},  # refusals are answers, not incidents
        "httpx": {"level": "WARNING"},
        "websockets": {"level": "WARNING"},
    },
}
