"""Bodies from strangers."""

import contextlib
import io
import json
import time

import pytest
from django.conf import settings
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from cloud.api.parsers import parse, read_bounded
from cloud.problems import Invalid, Problem, TooLarge

FLAVORS = "/api/v1/flavors"


def send(api, cloud_admin, body: bytes, content_type="application/json"):
    began = time.perf_counter()
    answer = api.as_(cloud_admin).generic("POST", FLAVORS, body, content_type=content_type)
    return answer, time.perf_counter() - began


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not JSON"),
        (b"[1]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e400}', "too large"),
        (b'{"a": 9223372036854775808}', "too large"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "too large"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"{" + b"".join(b'"a%d": 1, ' % n for n in range(40_000)) + b'"z": 1, "z": 1}', "twice"),
        (b'{"a": "\\u0000"}', "U+0000"),
        (b'{"a": ["x", {"\\u0000": 1}]}', "U+0000"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\x00"}', "not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"{} {}", "not JSON"),
        (b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}", "deeper"),
        (b'{"a": ' + b'{"b":' * 1000 + b"1" + b"}" * 1000 + b"}", "deeper"),
        (b"[" * 1000, "deeper"),
        (b"[" * 1_000_000, "50000 values"),
        (b"]" * 1_000_000, "50000 values"),
        (b'{"a":[' + b"[]," * 300_000, "50000 values"),
        (b'{"a":[' + b"1," * 500_000 + b"1]}", "50000 values"),
        (b'{"a":"' + b"[" * 100_000, "not JSON"),
        (b'{"a":"' + b'\\"' * 500_000, "not JSON"),
        (b'{"a":"' + b"\\" * 999_999, "not JSON"),
    ],
    ids=lambda value: str(value[:24]),
)
def test_what_has_no_one_meaning_is_refused_at_once(body, words):
    began = time.thread_time()
    with pytest.raises(Invalid) as refused:
        parse(body)
    assert words in refused.value.detail
    assert time.thread_time() - began < 0.2


def test_a_fault_deep_inside_is_pointed_at():
    with pytest.raises(Invalid) as refused:
        parse(b'{"a": ["x", {"b": "\\u0000"}]}')
    assert refused.value.errors[0].pointer == "/a/1/b"


def test_brackets_in_texts_are_no_depth():
    body = {"a": "[{" * 500, "b": '\\"[' * 50, "c": "\\"}
    assert parse(json.dumps(body).encode()) == body


def test_depth_32_is_accepted_and_33_is_not():
    assert parse(b'{"a":' * 31 + b"{}" + b"}" * 31)
    with pytest.raises(Invalid):
        parse(b'{"a":' * 32 + b"{}" + b"}" * 32)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\x00")), inner, max_size=4)
    ),
    max_leaves=30,
)


@given_settings(suppress_health_check=[HealthCheck.too_slow])  # of the machine, not of the test
@given(
    st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\x00")), json_values, max_size=4),
    st.booleans(),
)
def test_ordinary_json_comes_through_unchanged(value, ascii_only):
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_never_crash(body):
    with contextlib.suppress(Problem):
        assert isinstance(parse(body), dict)


def test_a_mebibyte_is_read_and_a_byte_more_is_not():
    limit = settings.API_MAX_BODY_BYTES
    assert len(read_bounded(io.BytesIO(b"x" * limit))) == limit
    with pytest.raises(TooLarge):
        read_bounded(io.BytesIO(b"x" * (limit + 1)))


def test_no_more_than_a_byte_too_much_is_ever_read():
    class Endless:
        def read(self, size):
            assert size <= settings.API_MAX_BODY_BYTES + 1
            return b" " * size

    with pytest.raises(TooLarge):
        read_bounded(Endless())


def test_too_large_a_body_is_413(api, cloud_admin):
    answer, seconds = send(api, cloud_admin, b'{"name": "' + b"x" * settings.API_MAX_BODY_BYTES)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_another_media_type_is_415(api, cloud_admin, content_type):
    answer, _ = send(api, cloud_admin, b"a=b", content_type)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_charset_beside_the_media_type_is_no_matter(api, cloud_admin):
    body = b'{"name": "small", "vcpus": 1, "memory_mib": 64, "disk_gib": 1}'
    answer, _ = send(api, cloud_admin, body, "application/json; charset=utf-8")
    assert answer.status_code == 201


def test_no_body_is_an_empty_object(api, cloud_admin):
    answer = api.as_(cloud_admin).generic("POST", FLAVORS)
    assert answer.status_code == 400
    assert {fault["code"] for fault in answer.json()["errors"]} == {"required"}
