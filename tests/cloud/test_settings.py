"""What the settings make of the environment."""

import os
import subprocess
import sys

import pytest

from cloud.embedded.paths import TREE

PROCESSES = {
    "web": "import cloud.wsgi",
    "streams": "import runpy; runpy.run_module('cloud.streams', run_name='__main__')",
}


def run(code: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONPATH": str(TREE)} | variables
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_what_visitors_reach_does_not_start_without_a_secret_key(process):
    done = run(process)
    assert done.returncode != 0
    assert "SECRET_KEY setting must not be empty" in done.stderr


@pytest.mark.parametrize(("url", "seconds"), [("https://cloud.example", "31536000"), ("http://127.0.0.1:8080", "0")])
def test_browsers_are_told_to_stay_with_https_where_there_is_any(url, seconds):
    shown = run("from cloud import settings; print(settings.SECURE_HSTS_SECONDS)", PILEUS_URL=url)
    assert shown.stdout.strip() == seconds


def test_a_provider_may_be_given_with_a_slash_at_its_end():
    shown = run("from cloud import settings; print(settings.SINGLE_SIGN_ON['url'])", PILEUS_OIDC_URL="http://idp/o/p/")
    assert shown.stdout.strip() == "http://idp/o/p"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PILEUS_IMAGE_STORE", "s3://"),
        ("PILEUS_IMAGE_STORE", "https://s3.example/bucket"),
        ("PILEUS_BACKUP_STORE", "s3://Name/x"),
        ("PILEUS_S3_ENDPOINT", "s3.example:9000"),
    ],
)
def test_a_store_that_cannot_be_meant_is_refused_in_words(variable, value):
    done = run("from cloud import settings", **{variable: value})
    assert f"ImproperlyConfigured: {variable} is " in done.stderr


def test_a_bucket_is_reached_by_its_path_at_a_store_of_ones_own():
    show = "from cloud import settings; print(settings.IMAGE_STORE, settings.S3['path_style'], settings.IMAGE_UPLOADS)"
    bucket = {"PILEUS_IMAGE_STORE": "s3://pileus/images", "PILEUS_IMAGE_UPLOADS": "/uploads"}
    assert run(show, **bucket).stdout.strip() == "s3://pileus/images False /uploads"
    there = run(show, PILEUS_S3_ENDPOINT="https://s3.example:9000/", **bucket).stdout.strip()
    assert there == "s3://pileus/images True /uploads"


def test_nothing_imports_botocore_where_no_bucket_is_set():
    loaded = "import sys, django; django.setup(); import storage.tasks, cloud.urls; from storage.store import store"
    code = f"{loaded}; store(); print(any(name.startswith('botocore') for name in sys.modules))"
    shown = run(code, DJANGO_SETTINGS_MODULE="cloud.settings", PILEUS_SECRET_KEY="x")
    assert shown.stdout.strip() == "False", shown.stderr
