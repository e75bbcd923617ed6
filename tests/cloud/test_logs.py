"""What a log tells of an error, and what it keeps to itself."""

import io
import json
import logging

import pytest
from django.db import DatabaseError, connection, transaction

from cloud.logs import formatter

SECRET = "of\nuser data"
REFUSED = {
    "a value that is taken": "INSERT INTO it VALUES (1, %s)",
    "a row that breaks a check": "INSERT INTO it VALUES (-1, %s)",
    "a value that is missing": "INSERT INTO it VALUES (NULL, %s)",
    "text that is no JSON": "SELECT %s::json",
}


@pytest.mark.django_db
@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_no_value_of_a_refused_statement_is_in_the_log(statement):
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(formatter())
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE it (id int NOT NULL UNIQUE CHECK (id > 0), data text UNIQUE)")
        cursor.execute("INSERT INTO it VALUES (1, %s)", [SECRET])
        try:
            with transaction.atomic():
                cursor.execute(statement, [SECRET])
        except DatabaseError:
            record = logging.makeLogRecord({"msg": "failed", "levelno": 40, "levelname": "ERROR", "exc_info": True})
            handler.handle(record)
    told = json.loads(lines.getvalue())["exception"]
    assert "Error" in told
    assert "user data" not in told
