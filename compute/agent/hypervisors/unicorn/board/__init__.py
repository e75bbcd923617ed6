# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole riscv64 computer in Python around the CPU of the Unicorn engine.

It runs as a process of its own, `python -I …/board '{…}'`, that needs nothing but the standard library and the
library of `unicorn`; the rest of Pileus talks to it over a Unix socket (control.py). That is also where its licence
ends: see LICENSE.
"""
