"""How a wrapper has exactly the powers of what it wraps: a power's methods are set on the instance, only when the inner storage has them.

isinstance with a runtime-checkable Protocol asks whether the members are there, on the class or on the instance, so it answers the truth about a wrapper
whose inner storage is known only at run time, without a class for each combination of powers.
"""

from mediacdn.interfaces import Adopts, LocalPaths, MultipartUpload, Presigner, RelativePaths, Room, Storage

POWERS: dict[type, tuple[str, ...]] = {
    LocalPaths: ("open_file",),
    RelativePaths: ("relative_path",),
    Room: ("free",),
    Adopts: ("adopt",),
    MultipartUpload: ("part_sizes", "begin_parts", "put_part", "list_parts", "complete_parts", "abort_parts", "list_uploads"),
    Presigner: ("presign_get", "presign_put", "presign_part"),
}
"""Each power of a storage and its members. A new power gets a row here, or the wrappers hide it."""


def pass_on(wrapper: Storage, inner: Storage) -> None:
    """Give `wrapper` the powers that `inner` has, unchanged; called in the wrapper's __init__."""
    for power, members in POWERS.items():
        if isinstance(inner, power):
            vars(wrapper).update({member: getattr(inner, member) for member in members})
