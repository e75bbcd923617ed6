"""A compute node has no Django, nor anything above the agent: the agent works where they cannot be imported."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        above = {"compute.models", "compute.services", "storage.models", "network.models"}
        if name.split(".")[0] in {"django", "rest_framework", "cloud", "images", "psycopg", "rich"} or name in above:
            raise ImportError(f"{name} is not on a compute node")

sys.meta_path.insert(0, Nowhere())
for package in map(importlib.import_module, ("agent", "compute.agent", "network.agent", "storage.agent")):
  for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if ".unicorn." not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("fine")
"""


def test_the_agent_is_imported_without_them():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr
