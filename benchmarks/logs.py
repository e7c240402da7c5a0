"""What servers' logs say of a failure: how the answers of a while were counted, and the last lines that tell of no success."""

import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

STATUS = re.compile(r'" ([1-5][0-9]{2}) |"status": ?([1-5][0-9]{2})\b')
"""As the combined format of nginx and varnishncsa has it, and as JSON."""
LAST = 5
FLUSHED = 1.5
"""Seconds after which what was buffered is written (nginx.conf: flush=1s)."""


class Logs:
    """Log files from now on; those that are not there, or not yet, are empty."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._from = {file: file.stat().st_size if file.is_file() else 0 for file in files}

    def since(self) -> str:
        """Tell, a file after another, how many answers had which status, and the last lines that were no answer below 400."""
        time.sleep(FLUSHED)
        told = []
        for file, start in self._from.items():
            if file.is_file():
                with file.open(errors="replace") as lines:
                    lines.seek(start)
                    told.append(f"{file.name}: {said(lines)}")
        return "\n".join(told)


def said(lines: Iterable[str]) -> str:
    """Count the statuses in lines of a log, and quote the last that are no answer below 400."""
    statuses: Counter[str] = Counter()
    last: deque[str] = deque(maxlen=LAST)
    for line in lines:
        found = STATUS.search(line)
        if found:
            statuses[found[1] or found[2]] += 1
        if line.strip() and (found is None or (found[1] or found[2]) >= "400"):
            last.append(line.strip()[:500])
    counted = ", ".join(f"{number:,} times {status}" for status, number in sorted(statuses.items()))
    return "\n  ".join([counted or "no answers", *last])
