"""Processes that the agent knows by pid and start time."""

import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.processes import Process, start_time
from tests.clouds import wait_until

LEADER_ENDS = """
import ctypes, os, socket, threading, time
listening = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=time.sleep, args=(60,)).start()
print(listening.getsockname()[1], flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of this thread alone, on x86-64
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the system call is of x86-64")
def test_a_process_lives_as_long_as_a_thread_holds_its_ports():
    child = subprocess.Popen([sys.executable, "-c", LEADER_ENDS], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    port, started = int(child.stdout.readline()), start_time(child.pid)
    assert started
    process = Process(child.pid, started)
    wait_until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    assert process.alive
    assert not process.wait(0.1)
    process.kill()
    assert process.wait(10)
    socket.create_server(("127.0.0.1", port)).close()
    child.wait()
