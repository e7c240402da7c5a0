"""RESULTS.md: one section a benchmark between marks, replaced by the next run of the same benchmark; the rest of the file is left alone."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")

HEAD = """# Results

Each section is written by the command that it names and replaced when that command runs again. Ratios compare two sides of one run on one machine, taken in
turns; absolute figures are that machine's and mean little elsewhere. A short run (without `--full`) shows that a benchmark works, not how fast anything is.
"""


def write(name: str, title: str, about: Mapping[str, str], command: str, body: str, file: Path = RESULTS) -> None:
    """Put a section in its place: over its predecessor, else at the end."""
    told = "\n".join(f"- {label}: {value}" for label, value in {**about, "command": f"`{command}`"}.items())
    section = f"<!-- {name} -->\n## {title}\n\n{told}\n\n{body.strip()}\n<!-- /{name} -->"
    before = file.read_text() if file.exists() else HEAD
    place = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->", re.DOTALL)
    after = place.sub(lambda _: section, before) if place.search(before) else f"{before.rstrip()}\n\n{section}\n"
    file.write_text(after)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
