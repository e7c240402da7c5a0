"""Fingerprints: equal work has equal ones, also in another process, on another day, after another release. They are kept in catalogs: the bytes never change.

What is hashed is a label, a line feed, and one JSON array in canonical form, as ASCII: no blanks, names of objects sorted by their code points, strings in NFC
with every character outside of 0x20 to 0x7E, and `"` and `\\`, escaped as json.dumps does (`\\n`, `\\u00e9`, surrogate pairs beyond U+FFFF), whole numbers as
digits, others as the shortest decimal that reads back as the same double, as Python's repr writes it (0.5, 1e-05). A label says which array follows, JSON
tells texts from numbers, and nothing follows the array: different input never has the same bytes.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from mediacdn.recipes.arguments import Value


def fingerprint(source_id: str, code: str, version: int, arguments: Mapping[str, Value]) -> str:
    """The SHA-256, in lower-case hexadecimal, that a task is known by.

    Caller promises: `arguments` are normal (see arguments.normalise). The bytes: `mediacdn task v1`, LF, `[source_id,code,version,{"name":value,…}]`, as in

        mediacdn task v1
        ["01ARZ3NDEKTSV4RRFFQ69G5FAV","poster",1,{"lang":"pt-br","w":320}]
    """
    return sha256(_bytes("mediacdn task v1", [source_id, code, version, dict(arguments)])).hexdigest()


def derivation_key(source_id: str, action: str, spec: Mapping[str, Value]) -> str:
    """The SHA-256, in lower-case hexadecimal, that what an action makes of a media is known by: a step's input is `source_id`, whatever recipe it is a step of.

    Caller promises: `spec` is normal by the action's arguments. The bytes: `mediacdn derivation v1`, LF, `[source_id,action,{"name":value,…}]`.
    """
    return sha256(_bytes("mediacdn derivation v1", [source_id, action, dict(spec)])).hexdigest()


def _bytes(label: str, values: list[Any]) -> bytes:
    return f"{label}\n{json.dumps(values, separators=(',', ':'), sort_keys=True, allow_nan=False)}".encode("ascii")
