# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs this directory as a program of its own: its package is found beside nothing else of the project."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from board.process import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
