"""What a guest's first boot reads, looked at while its writer can mend it: in the guest it would be a line in a log."""

import itertools

import yaml

CLOUD_CONFIG = "#cloud-config"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def fault(text: str) -> str | None:
    """What is wrong with a `#cloud-config`, in words; None when it can be read, or is of another kind.

    Only its events are read, one by one: nothing is built, so depth and aliases cost nothing.
    """
    if text.split("\n", 1)[0].strip() != CLOUD_CONFIG:
        return None
    try:
        events = list(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f"Line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"{where}{problem.problem or 'this is not YAML'}."
    except yaml.YAMLError as problem:  # a character that YAML does not know
        return f"It is not YAML: {problem.args[-1] if problem.args else problem}."
    for event, after in itertools.pairwise(events):
        if isinstance(event, yaml.DocumentStartEvent) and not isinstance(after, yaml.MappingStartEvent):
            line = after.start_mark.line if after.start_mark else 0
            return f"Line {line + 1}: cloud-config is a mapping, such as “hostname: web”."
    return None
