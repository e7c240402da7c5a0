"""Patterns of string arguments: the regular expressions that every JSON Schema validator reads alike, matched in time linear in the text.

Whole texts are matched, so `^` and `$` have no place. There are alternatives, groups, classes, `.`, `\\d`, `\\w`, escaped punctuation and the quantifiers
`* + ? {n} {n,} {n,m}`; there is no look-around, no back-reference and nothing lazy. `re` would take exponential time over a pattern such as `(a+)+`, on the
event loop and by a caller's choice of text; here each character costs at most one look at each of the pattern's MAX_SIZE instructions.
"""

from collections.abc import Callable
from functools import lru_cache

MAX_SIZE = 512
"""Instructions of a pattern, its counted repetitions written out."""

_MAX_TEXT = 1000
_MAX_DEPTH = 16
_SYNTAX = frozenset("^$\\.*+?()[]{}|/-")
_LINE_ENDS = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
_CLASSES = {"d": ((0x30, 0x39),), "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))}

Ranges = tuple[tuple[int, int], ...]
Node = Callable[["_Program"], None]


class Pattern:
    """A compiled pattern."""

    __slots__ = ("_steps",)

    def __init__(self, source: str) -> None:
        """Raises: ValueError with a sentence that says what is wrong with `source`."""
        program = _Program()
        _Parser(source).parse()(program)
        self._steps = tuple(program.steps)

    def fullmatch(self, text: str) -> bool:
        """Whether the whole text matches."""
        states = self._reached({0})
        for character in map(ord, text):
            states = self._reached({state + 1 for state in states if self._takes(state, character)})
            if not states:
                return False
        return len(self._steps) in states

    def _takes(self, state: int, character: int) -> bool:
        if state == len(self._steps):
            return False
        negated, ranges, _ = self._steps[state]
        return any(low <= character <= high for low, high in ranges) is not negated

    def _reached(self, states: set[int]) -> set[int]:
        """The states that wait for a character, or for the end, and can be come to from these without one."""
        seen: set[int] = set()
        waiting: set[int] = set()
        todo = list(states)
        while todo:
            state = todo.pop()
            if state in seen:
                continue
            seen.add(state)
            jumps = self._steps[state][2] if state < len(self._steps) else ()
            if jumps:
                todo.extend(jumps)
            else:
                waiting.add(state)
        return waiting


@lru_cache(maxsize=256)
def compiled(source: str) -> Pattern:
    """The pattern, compiled once. Raises: ValueError."""
    return Pattern(source)


class _Program:
    """Instructions: take a character (negated, ranges, no jumps), or go on at one or more others (jumps)."""

    def __init__(self) -> None:
        self.steps: list[tuple[bool, Ranges, tuple[int, ...]]] = []

    def take(self, negated: bool, ranges: Ranges) -> None:
        self._add((negated, ranges, ()))

    def jump(self, *targets: int) -> int:
        """Add a jump; its place, so that it can be aimed later."""
        self._add((False, (), targets or (-1,)))
        return len(self.steps) - 1

    def aim(self, place: int, *targets: int) -> None:
        self.steps[place] = (False, (), targets)

    def _add(self, step: tuple[bool, Ranges, tuple[int, ...]]) -> None:
        if len(self.steps) >= MAX_SIZE:
            raise ValueError("it is too large with its repetitions written out")
        self.steps.append(step)


class _Parser:
    """Recursive descent; what it gives writes the instructions, as often as a quantifier asks."""

    def __init__(self, source: str) -> None:
        if len(source) > _MAX_TEXT:
            raise ValueError(f"it has more than {_MAX_TEXT} characters")
        self._source = source
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._alternatives()
        if self._at < len(self._source):
            raise ValueError("it has a ) without a (")
        return node

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _next(self, missing: str) -> str:
        character = self._peek()
        if not character:
            raise ValueError(f"it ends where {missing} should be")
        self._at += 1
        return character

    def _alternatives(self) -> Node:
        arms = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            arms.append(self._sequence())

        def write(program: _Program) -> None:
            fork = program.jump() if len(arms) > 1 else -1
            starts, ends = [], []
            for arm in arms:
                starts.append(len(program.steps))
                arm(program)
                if len(arms) > 1:
                    ends.append(program.jump())
            if fork >= 0:
                program.aim(fork, *starts)
            for end in ends:
                program.aim(end, len(program.steps))

        return write

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))

        def write(program: _Program) -> None:
            for part in parts:
                part(program)

        return write

    def _atom(self) -> Node:
        character = self._next("something")
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == ".":
            return lambda program: program.take(True, _LINE_ENDS)
        if character in "^$":
            raise ValueError("it always matches the whole text; leave ^ and $ out")
        if character in "*+?{}]":
            raise ValueError(f"it has a {character} that repeats or closes nothing; write \\{character} for the character")
        ranges = self._escaped() if character == "\\" else ((ord(character), ord(character)),)
        return lambda program: program.take(False, ranges)

    def _group(self) -> Node:
        if self._peek() == "?":
            if self._source[self._at : self._at + 2] != "?:":
                raise ValueError("it has a group of a kind that JSON Schema validators do not share, (?…)")
            self._at += 2
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError("its groups are nested too deeply")
        node = self._alternatives()
        if self._next("a )") != ")":
            raise ValueError("it has a ( without a )")
        self._depth -= 1
        return node

    def _escaped(self) -> Ranges:
        character = self._next("an escaped character")
        if character in _CLASSES:
            return _CLASSES[character]
        if character not in _SYNTAX:
            raise ValueError(
                f"it has \\{character}, which not every JSON Schema validator reads; there is \\d, \\w and escaped punctuation"
            )
        return ((ord(character), ord(character)),)

    def _class(self) -> Node:
        negated = self._peek() == "^"
        self._at += negated
        ranges: list[tuple[int, int]] = []
        while (character := self._next("a ]")) != "]":
            if character == "[" or (character in "&~-" and self._peek() == character):
                raise ValueError(f"it has {character!r} in a class, where it is read in more than one way; escape it, or write it once")
            low = self._escaped() if character == "\\" else ((ord(character), ord(character)),)
            if self._peek() == "-" and self._source[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                character = self._next("the end of a range")
                high = self._escaped() if character == "\\" else ((ord(character), ord(character)),)
                if character == "[" or len(low) > 1 or len(high) > 1 or low[0][0] != low[0][1] or not low[0][0] <= high[0][0] == high[0][1]:
                    raise ValueError("it has a range in a class that does not run from one character to a later one")
                low = ((low[0][0], high[0][0]),)
            ranges.extend(low)
        if not ranges:
            raise ValueError("it has a class without characters")
        found = tuple(ranges)
        return lambda program: program.take(negated, found)

    def _quantified(self, node: Node) -> Node:
        least, most = self._quantifier()
        if (least, most) == (1, 1):
            return node
        if self._peek() in ("*", "+", "?", "{"):
            raise ValueError("it has a quantifier after a quantifier")

        def write(program: _Program) -> None:
            for _ in range(least):
                node(program)
            if most is None:
                fork = program.jump()
                node(program)
                program.jump(fork)
                program.aim(fork, fork + 1, len(program.steps))
                return
            forks = []
            for _ in range(most - least):
                forks.append(program.jump())
                node(program)
            for fork in forks:
                program.aim(fork, fork + 1, len(program.steps))

        return write

    def _quantifier(self) -> tuple[int, int | None]:
        character = self._peek()
        if character in ("*", "+", "?"):
            self._at += 1
            return (1 if character == "+" else 0), (1 if character == "?" else None)
        if character != "{":
            return 1, 1
        end = self._source.find("}", self._at)
        low, comma, high = self._source[self._at + 1 : end].partition(",") if end >= 0 else ("", "", "")
        if not _count(low) or not (high == "" or _count(high)):
            raise ValueError("it has a { that begins no {n}, {n,} or {n,m}; write \\{ for the character")
        self._at = end + 1
        least = int(low)
        most = (int(high) if high else None) if comma else least
        if most is not None and most < max(least, 1):
            raise ValueError(f"it has {{{low}{comma}{high}}}, which repeats nothing")
        return least, most


def _count(text: str) -> bool:
    return 0 < len(text) <= 3 and text.isascii() and text.isdigit()
