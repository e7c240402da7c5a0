"""How a wrapper has exactly the powers of what it wraps: a power's methods are set on the instance, only when the inner storage has them.

isinstance with a runtime-checkable Protocol asks whether the members are there, on the class or on the instance, so it answers the truth about a wrapper
whose inner storage is known only at run time, without a class for each combination of powers.
"""

from mediacdn.interfaces import LocalPaths, Room, Storage

POWERS: dict[type, str] = {LocalPaths: "open_file", Room: "free"}
"""Each power of a storage and its one method. A new power gets a row here, or the wrappers hide it."""


def pass_on(wrapper: Storage, inner: Storage) -> None:
    """Give `wrapper` the powers that `inner` has, unchanged; called in the wrapper's __init__."""
    for power, method in POWERS.items():
        if isinstance(inner, power):
            vars(wrapper)[method] = getattr(inner, method)
