"""The first steps with the API, in this cloud's own words: texts that work as they are pasted, also on a cloud that has
machines already. They choose a name that is free, and delete nothing but what they have launched themselves."""

from dataclasses import dataclass

TOKEN = "paste-your-token-here"  # noqa: S105


@dataclass(frozen=True)
class Facts:
    """What the examples are about."""

    url: str
    project: str
    image: str
    flavor: str
    keypair: str = ""


@dataclass(frozen=True)
class Step:
    title: str
    words: str
    code: str


def shell(facts: Facts) -> list[Step]:
    """For a shell with curl, one step after the other."""
    keys = f', "keypairs": ["{facts.keypair}"]' if facts.keypair else ""
    return [
        Step(
            "Say who you are",
            "Once in each shell. Everything that follows is of this project.",
            f"export TOKEN={TOKEN}\n"
            f"export API={facts.url}/api/v1/projects/{facts.project}\n"
            """call() { curl -sS --fail-with-body -H "Authorization: Bearer $TOKEN" "$@"; echo; }""",
        ),
        Step("Look around", "What may be launched here, and what is left of the quota.",
             'call "$API/images"\ncall "$API/../../flavors"\ncall "$API/quota"'),
        Step(
            "Try it out",
            "A dry run answers as the launch would, with a plan, and changes nothing.",
            f"""export NAME=hello-$(od -An -N4 -tx1 /dev/urandom | tr -d ' ')
export BODY='{{"name": "'$NAME'", "flavor": "{facts.flavor}", "image": "{facts.image}"{keys}}}'
call "$API/instances?dry_run=true" -H "Content-Type: application/json" -d "$BODY\"""",
        ),
        Step(
            "Launch",
            "The answer has the operation that does the work. With a key of your own a retry never makes a second one.",
            """LAUNCHED=$(call "$API/instances" -H "Content-Type: application/json" \\
  -H "Idempotency-Key: $NAME" -d "$BODY"); echo "$LAUNCHED"
read -r MACHINE OPERATION <<< "$(echo "$LAUNCHED" | python3 -c '
import json, sys
made = json.load(sys.stdin)
print(made.get("id", ""), made.get("operation", {}).get("id", ""))')\"""",
        ),
        Step("Wait without polling", "Answers when the work has ended, at latest after a minute.",
             'call "$API/operations/${OPERATION:?nothing was launched}?wait=60"\n'
             'call "$API/instances/${MACHINE:?nothing was launched}"'),
        Step("Read its console", "What the machine writes on its serial port, as soon as it has written something.",
             'for second in $(seq 60); do\n'
             '  LOG=$(call "$API/instances/${MACHINE:?nothing was launched}/console-log?lines=20")\n'
             """  case "$LOG" in *'"lines":[]'*) sleep 1 ;; *) break ;; esac\n"""
             'done; echo "$LOG"'),
        Step("Delete it", "For good at once; without `purge` it waits in the trash for a day.",
             'call -X DELETE "$API/instances/${MACHINE:?nothing was launched}?purge=true"'),
    ]  # fmt: skip


def python(facts: Facts) -> str:
    """The same as one program, with httpx."""
    keys = f', "keypairs": ["{facts.keypair}"]' if facts.keypair else ""
    return f'''import os
import time

import httpx  # pip install httpx

cloud = httpx.Client(
    base_url="{facts.url}/api/v1/projects/{facts.project}",
    headers={{"Authorization": "Bearer " + os.environ.get("TOKEN", "{TOKEN}")}},
    timeout=70,
)


def call(method, path, **how):
    answer = cloud.request(method, path, **how)
    if answer.is_error:
        raise SystemExit(f"{{method}} {{path}}: {{answer.json()['detail']}}")
    return answer.json()


machine = call(
    "POST",
    "/instances",
    json={{"name": "hello-" + os.urandom(4).hex(), "flavor": "{facts.flavor}", "image": "{facts.image}"{keys}}},
    headers={{"Idempotency-Key": os.urandom(8).hex()}},
)
work = call("GET", f"/operations/{{machine['operation']['id']}}", params={{"wait": 60}})
print(work["outcome"], work["reason"])
path = "/instances/" + machine["id"]
print(call("GET", path)["status"])
for second in range(60):  # until it has written something
    lines = call("GET", path + "/console-log")["lines"]
    if lines:
        break
    time.sleep(1)
print("\\n".join(lines))
call("DELETE", path, params={{"purge": True}})  # for good at once: it does not wait in the trash
'''
