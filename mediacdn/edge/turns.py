"""Turns between the server processes of a node: who fills a key, by locks that the kernel takes back from the dead."""

from pathlib import Path


class Turns:
    """One lock file in the edge directory, opened at the first use: make it in the process that uses it, never before a fork."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def close(self) -> None:
        """Give every turn back."""
