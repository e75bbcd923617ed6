"""What the environment of `up` and `restart` says of a cloud, beside what is remembered of it."""

import os
from dataclasses import replace
from typing import Any

from cloud.embedded import environment
from cloud.embedded.errors import Trouble
from cloud.embedded.memory import Memory


def told_by_environment(memory: Memory) -> Memory:
    """What the environment asks for goes before what is remembered."""
    told: dict[str, Any] = {
        "listen": os.environ.get("PILEUS_LISTEN"),
        "url": os.environ.get("PILEUS_URL"),
        "database_url": os.environ.get("DATABASE_URL"),
        "redis_url": os.environ.get("REDIS_URL"),
        "host_redis_url": os.environ.get("PILEUS_HOST_REDIS_URL"),
    }
    for name in ("port", "redis_port"):
        if given := os.environ.get(f"PILEUS_{name.upper()}"):
            if not given.isdecimal() or not 0 < int(given) < 65536:
                raise Trouble(f"PILEUS_{name.upper()}={given} is no port number")
            told[name] = int(given)
    if memory.furnished:
        _keep_database(memory, told["database_url"])
    said = environment.remembered()
    told["settings"] = {name: value for name, value in (memory.settings | said).items() if value}
    return replace(memory, **{name: value for name, value in told.items() if value or name == "settings"})


def _keep_database(memory: Memory, database_url: str | None) -> None:
    """A cloud that has data stays with it: a variable left over in somebody's shell must not swap it for another."""
    if database_url in (None, "", memory.database_url) or os.environ.get("PILEUS_DATABASE_MOVED") == "1":
        return
    where = "the server it was first told of" if memory.database_url else "its own PostgreSQL"
    raise Trouble(
        f"this cloud keeps its data in {where}; DATABASE_URL names another one.\n"
        "    Unset it; or choose another PILEUS_HOME for another cloud;\n"
        "    or set PILEUS_DATABASE_MOVED=1, once, if you have moved the data there."
    )
