"""The first steps with the API, in this cloud's own words: texts that work as they are pasted."""

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
            f"""export BODY='{{"name": "first", "flavor": "{facts.flavor}", "image": "{facts.image}"{keys}}}'
call "$API/instances?dry_run=true" -H "Content-Type: application/json" -d "$BODY\"""",
        ),
        Step(
            "Launch",
            "The answer has the operation that does the work. With a key of your own a retry never makes a second one.",
            """call "$API/instances" -H "Content-Type: application/json" -H "Idempotency-Key: first-$$" \\
  -d "$BODY" | tee launched.json
OPERATION=$(python3 -c 'import json; print(json.load(open("launched.json"))["operation"]["id"])')""",
        ),
        Step("Wait without polling", "Answers when the work has ended, at latest after a minute.",
             'call "$API/operations/$OPERATION?wait=60"\ncall "$API/instances/first"'),
        Step("Read its console", "What the machine has written on its serial port.",
             'call "$API/instances/first/console-log?lines=20"'),
        Step("Delete it", "With everything on its root disk.", 'call -X DELETE "$API/instances/first"'),
    ]  # fmt: skip


def python(facts: Facts) -> str:
    """The same as one program, with httpx."""
    keys = f', "keypairs": ["{facts.keypair}"]' if facts.keypair else ""
    return f'''import os

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
    json={{"name": "second", "flavor": "{facts.flavor}", "image": "{facts.image}"{keys}}},
    headers={{"Idempotency-Key": os.urandom(8).hex()}},
)
work = call("GET", f"/operations/{{machine['operation']['id']}}", params={{"wait": 60}})
print(work["outcome"], work["reason"])
print(call("GET", "/instances/second")["status"])
print("\\n".join(call("GET", "/instances/second/console-log")["lines"]))
call("DELETE", "/instances/second")
'''
