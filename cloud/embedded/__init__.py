"""One-machine mode: PostgreSQL and Valkey from wheels, and every process of the cloud under one supervisor.

`./pileus up` is `up.py`; what runs is the table in `processes.py`, which docker-compose.yml repeats; what keeps it
running is `supervisor.py`. Nothing here knows Django, except the management command `bootstrap`.
"""
