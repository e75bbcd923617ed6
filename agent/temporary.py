"""Temporary folders of an emulator's own, small and gone with it, over those that all users of the host can write.

Of what the host has in such a folder, an emulator sees only the agent's own directories, if they are there.
"""

import os
import sys
from pathlib import Path

from agent.paths import Paths

# Arguments: the directories to show, “--”, the command. A folder that is covered stays the working directory for as
# long as something of it has to be shown; so relative paths lead into it. `-c`: mount(8) takes them as they are.
SCRIPT = """
set -e
for folder in /tmp /var/tmp /dev/shm; do
    [ -d "$folder" ] || continue
    cd -P "$folder"
    folder=$(pwd -P)
    mount -t tmpfs -o size=16m,nr_inodes=1024,mode=1777,nosuid,nodev none "$folder"
    for shown; do
        [ "$shown" != -- ] || break
        inner=${shown#"$folder"/}
        [ "$inner" != "$shown" ] && [ -d "./$inner" ] || continue
        (umask 022; mkdir -p "$shown")
        mount -c --rbind "./$inner" "$shown"
    done
done
cd /
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


def command(paths: Paths) -> tuple[str, ...]:
    """The words before a command that give it such folders. An ordinary user needs a user namespace for it.

    What is mounted on the host later is seen there, too, and what is unmounted is not kept busy.
    """
    namespaces, afterwards = ["--mount", "--propagation", "slave"], []
    if os.geteuid() != 0:
        namespaces += ["--user", "--map-root-user"]
        afterwards = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]  # so that it stays as it is
    own = {paths.home, paths.runtime, Path(sys.prefix), Path(sys.base_prefix)}
    shown = sorted({os.path.realpath(path) for path in own})
    return ("unshare", *namespaces, "--", "sh", "-c", SCRIPT, "sh", *shown, "--", *afterwards)
