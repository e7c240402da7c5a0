"""Which storage takes a new object, and where it lands before: the configuration's rules in their order, pure; and why each rule before the one that won did not hold."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from msgspec import Struct

from mediacdn.config import Config, Rule
from mediacdn.config.storages import default_storage, landings
from mediacdn.http.media_types import matches
from mediacdn.model import Media

ORIGINAL = "original"


class Subject(Struct, frozen=True, kw_only=True):
    """What the rules look at. `media_type` is in normal form; `size` is in bytes, None while unknown.

    `variant` is "" for an original, else what a derivative is to its source ("thumbnail", "page:1") or the text of an ad-hoc variant. A derivative is placed by its
    own type and size, and by its source's tags, owner and visibility.
    """

    media_type: str
    size: int | None = None
    tags: Collection[str] = ()
    owner: str = ""
    public: bool = False
    variant: str = ""


class Placed(Struct, frozen=True):
    """Where a subject goes: the storage, the number from 0 of the rule that said so, None where none held; and why each rule before did not."""

    storage: str
    rule: int | None
    passed: tuple[str, ...] = ()


class Routing(Struct, frozen=True):
    """The rules in their order, the storage of what none of them claims, and the storages whose uploads land elsewhere first, each with that other one."""

    rules: tuple[Rule, ...] = ()
    default: str = "default"
    via: Mapping[str, str] = {}

    def place(self, subject: Subject) -> Placed:
        """Choose by the first rule whose conditions all hold. One that bounds the size does not hold while the size is unknown; bounds are inclusive."""
        passed: list[str] = []
        for number, rule in enumerate(self.rules):
            why = flaw(rule, subject)
            if why is None:
                return Placed(rule.storage, number, tuple(passed))
            passed.append(why)
        return Placed(self.default, None, tuple(passed))

    def belongs(self, media: Media) -> str:
        """The storage of an original."""
        return self.place(subject(media)).storage

    def destination(self, media: Media) -> str:
        """Where a media's bytes are to be: where they are, but for an original that waits where it landed."""
        return self.belongs(media) if media.source_id is None and media.storage in self.via.values() else media.storage

    def landing(self, storage: str) -> str:
        """Where uploads that belong in `storage` arrive."""
        return self.via.get(storage, storage)

    @property
    def sized(self) -> bool:
        """Whether a size can decide."""
        return any(rule.min_size is not None or rule.max_size is not None for rule in self.rules)


def routing(config: Config) -> Routing:
    """The routing of a configuration."""
    return Routing(config.routing, default_storage(config), landings(config))


def subject(media: Media, variant: str = "") -> Subject:
    """A media as the rules see it."""
    return Subject(media_type=media.media_type, size=media.size, tags=media.tags, owner=media.owner, public=media.public, variant=variant)


def flaw(rule: Rule, subject: Subject) -> str | None:
    """Tell the first condition that does not hold, in words; None when the rule holds."""
    size = subject.size
    if rule.variant is not None and not _is(rule.variant, subject.variant):
        return f"it is {subject.variant or 'an original'}, not {rule.variant}"
    if rule.type is not None and not matches(rule.type, subject.media_type):
        return f"its type is {subject.media_type}, not {rule.type}"
    if size is None and (rule.min_size is not None or rule.max_size is not None):
        return "its size is not known yet"
    if size is not None and rule.min_size is not None and size < rule.min_size:
        return f"it has {size} bytes, fewer than {rule.min_size}"
    if size is not None and rule.max_size is not None and size > rule.max_size:
        return f"it has {size} bytes, more than {rule.max_size}"
    if rule.tag is not None and rule.tag not in subject.tags:
        return f"it has no tag {rule.tag}"
    if rule.owner is not None and rule.owner != subject.owner:
        return f"its owner is {subject.owner or 'nobody'}, not {rule.owner}"
    if rule.public is not None and rule.public != subject.public:
        return f"it is {'public' if subject.public else 'private'}"
    return None


def _is(pattern: str, variant: str) -> bool:
    """Whether `pattern`, "original" or the name of a form in which * stands for anything, covers a form."""
    return not variant if pattern == ORIGINAL else bool(variant) and fnmatchcase(variant, pattern)


def conditions(rule: Rule) -> str:
    """Tell a rule's conditions in words."""
    named = {name: getattr(rule, name) for name in ("variant", "type", "min_size", "max_size", "tag", "owner", "public")}
    said = [f"{name} = {str(value).lower() if isinstance(value, bool) else value}" for name, value in named.items() if value is not None]
    return ", ".join(said) or "always"
