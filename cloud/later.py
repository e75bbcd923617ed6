"""What a library imports in case it is needed, and this project needs in one place only, is loaded when it is used.

It costs every process of the control plane 4 MiB. Imported first of all, by the package itself.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

# Django REST framework has a test client by it. Single sign-on asks its provider by it, in whichever thread: where it
# is used it is loaded at once.
LATER = set() if os.environ.get("PILEUS_OIDC_URL") else {"requests"}


class Later:
    """A finder for `sys.meta_path`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LATER else None
        if spec and spec.loader:
            spec.loader = LazyLoader(spec.loader)
        return spec


sys.meta_path.insert(0, Later)
