"""What can be wrong with storage."""

from cloud.hosts.troubles import told_of
from cloud.operations.troubles import Looked, trouble


@trouble(
    "Damaged image files on hosts",
    "The host throws such a file away and fetches it again, and tells of it until its worker restarts. Look whether "
    "its disk is failing; machines that it started from the file before may have read wrong data.",
)
def damaged_files() -> Looked:
    return told_of("image cache")
