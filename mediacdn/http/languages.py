"""Language tags (RFC 5646): which are well-formed, and how they are written."""

import re

LONGEST = 35
"""Characters that RFC 5646 section 4.4.1 has everybody take."""
_TAG = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})(?:-[a-z]{4})?(?:-(?:[a-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)(?P<extensions>(?:-[a-wyz0-9](?:-[a-z0-9]{2,8})+)*)(?:-x(?:-[a-z0-9]{1,8})+)?"
)


def language_tag(text: str) -> str | None:
    """Give a tag in the case of RFC 5646 section 2.1.1, such as `zh-Hant-TW`; None for what is none (the irregular ones of old among them)."""
    lower = text.lower()
    found = _TAG.fullmatch(lower) if text.isascii() and len(text) <= LONGEST else None
    if found is None:
        return None
    variants = found["variants"].split("-")[1:]
    singletons = re.findall(r"-([a-wyz0-9])(?=-)", found["extensions"])
    if len(set(variants)) < len(variants) or len(set(singletons)) < len(singletons):
        return None
    first, *others = lower.split("-")
    written, plain = [first], False
    for each in others:
        plain = plain or len(each) == 1  # behind a singleton all is lower case
        written.append(each if plain else each.upper() if len(each) == 2 else each.title() if len(each) == 4 and each.isalpha() else each)
    return "-".join(written)
