"""Language tags (RFC 5646): well-formed ones in their case, and none of the others."""

import pytest

from mediacdn.http.languages import language_tag

TAGS = {
    "en": "en", "EN": "en", "pt-br": "pt-BR", "zh-hant-tw": "zh-Hant-TW", "zh-cmn-Hans-CN": "zh-cmn-Hans-CN", "es-419": "es-419", "sl-rozaj-biske": "sl-rozaj-biske",
    "de-CH-1901": "de-CH-1901", "en-US-x-twain": "en-US-x-twain", "de-DE-u-co-phonebk": "de-DE-u-co-phonebk", "EN-a-MYEXT-b-Another": "en-a-myext-b-another",
    "tlh": "tlh", "qaa-Qaaa-QM": "qaa-Qaaa-QM",
}  # fmt: skip
NONE = [
    "", "e", "english-", "en-", "-en", "en--US", "en_US", "de-419-DE", "a-DE", "ar-a-aaa-b-bbb-a-ccc", "de-1901-1901", "i-klingon", "x-private", "en-x", "en-US-GB",
    "en/../..", "en\n", "\u0435n", "a" * 9, "en-" + "-".join(["abcde"] * 7), "en-u",
]  # fmt: skip


@pytest.mark.parametrize(("given", "written"), TAGS.items(), ids=list(TAGS))
def test_a_tag_has_one_spelling(given: str, written: str) -> None:
    assert language_tag(given) == written
    assert language_tag(written) == written


@pytest.mark.parametrize("given", NONE, ids=map(repr, NONE))
def test_what_is_no_tag(given: str) -> None:
    assert language_tag(given) is None
