"""Which of several media types a client would rather have, by its Accept field (RFC 9110 section 12.5.1). Malformed members are passed over."""

import re

from msgspec import Struct

_MAX_FIELD = 8192
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
# A quoted text may hold commas, and one left open ends with the field. Possessive throughout: no input makes these backtrack.
_MEMBERS = re.compile(r'(?>"(?:[^"\\]|\\.)*+"?+|[^,])++', re.DOTALL)
_RANGE = re.compile(rf"({_WORD})/({_WORD})((?:[ \t]*+;[ \t]*+(?:{_WORD}=(?>{_WORD}|{_QUOTED}))?+)*+)")
_WEIGHT = re.compile(r"[ \t]*+;[ \t]*+[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*+(?:;.*)?", re.DOTALL)
_NO_PARAMETERS = re.compile(r"[ \t;]*+")


class Preferences(Struct, frozen=True):
    """What a client accepts: weights of 0 to 1 by `type/subtype`, by `type`, and for the rest. Without an Accept field everything is as good."""

    types: dict[str, float] = {}
    groups: dict[str, float] = {}
    rest: float = 1.0

    def named(self, media_type: str) -> float:
        """The weight of a type that the field names itself, 0 when it does not."""
        return self.types.get(media_type, 0.0)

    def weight(self, media_type: str) -> float:
        """The weight of a type by the most specific range that covers it; 0 is not acceptable."""
        return self.types.get(media_type, self.groups.get(media_type.partition("/")[0], self.rest))


def preferences(accept: str | None) -> Preferences:
    """Read an Accept field, several joined with commas.

    A field that is absent, empty, above 8 KiB or malformed throughout says nothing. A range with parameters other than the weight is passed over: it asks for
    a form of a type that is not offered here. Of one range twice, the higher weight counts.
    """
    types: dict[str, float] = {}
    groups: dict[str, float] = {}
    rest: float | None = None
    for member in _MEMBERS.findall(accept) if accept is not None and len(accept) <= _MAX_FIELD else ():
        found = _RANGE.fullmatch(member.strip(" \t"))
        weight = None if found is None else _weight(found[3])
        if found is None or weight is None:
            continue
        group, kind = found[1].lower(), found[2].lower()
        if group == kind == "*":
            rest = max(weight, rest or 0.0)
        elif kind == "*":
            groups[group] = max(weight, groups.get(group, 0.0))
        elif group != "*":
            types[f"{group}/{kind}"] = max(weight, types.get(f"{group}/{kind}", 0.0))
    if rest is None:
        rest = 0.0 if types or groups else 1.0
    return Preferences(types, groups, rest)


def _weight(parameters: str) -> float | None:
    """The weight that a range's parameters say; None when it is malformed or there are others before it."""
    if _NO_PARAMETERS.fullmatch(parameters):
        return 1.0
    found = _WEIGHT.fullmatch(parameters)
    return None if found is None else float(found[1])
