"""The system calls that a process which reads untrusted bytes is refused: a classic BPF program for seccomp(2), on x86_64 and aarch64.

A decoder computes, allocates, starts threads, and reads and writes what it was handed. It is refused what reaches other processes, the network and the
machine: sockets, signals, tracing, starting processes, keys, namespaces, io_uring, and what changes a file without opening it, which Landlock lets pass.
What is refused fails with EPERM; a call that is newer than this list does not exist (ENOSYS), so that C libraries go the older way.
"""

import ctypes
import errno
import os
import struct
import sys

_X86_64, _AARCH64 = 0xC000003E, 0xC00000B7
_NEWEST = 450
"""The newest call that was looked at (set_mempolicy_home_node, Linux 5.17)."""

# Name = the numbers on x86_64 and aarch64; 0 where there is none.
REFUSED = {
    # the network, and processes that listen on this machine
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "kcmp": (312, 272), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
    # processes of its own, and leaving the group that is killed with it
    "fork": (57, 0), "vfork": (58, 0), "setsid": (112, 157), "setpgid": (109, 154),
    # memory and messages that are shared by key or name
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193), "semtimedop": (220, 192), "semctl": (66, 191),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # what changes files, or watches them, without opening them
    "chmod": (90, 0), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, 0), "fchown": (93, 55), "lchown": (94, 0), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "truncate": (76, 45), "utime": (132, 0), "utimes": (235, 0), "futimesat": (261, 0), "utimensat": (280, 88), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "inotify_init": (253, 0), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "quotactl": (179, 60), "quotactl_fd": (443, 443),
    # the kernel's large or privileged parts
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280), "userfaultfd": (323, 282), "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "personality": (135, 92), "lookup_dcookie": (212, 18),
    "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41), "mount": (165, 40), "umount2": (166, 39),
    "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "ioperm": (173, 0), "iopl": (172, 0),
    "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58),
}  # fmt: skip
PROGRAMS = {"execve": (59, 221), "execveat": (322, 281)}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_TO_ITSELF = {"kill": (62, 129), "tgkill": (234, 131)}
_OF_ITSELF = {"prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274)}  # fmt: skip
_PRCTL, _SECCOMP = (157, 167), (317, 277)
_PR_SET_PDEATHSIG = 1
_CLONE_THREAD, _CLONE_NEW = 0x10000, 0x7E020000

_LOAD, _EQUAL, _AT_LEAST, _ANY_OF, _GIVE = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16
_SET_MODE_FILTER, _GET_ACTION_AVAILABLE = 1, 2
_SPEC_ALLOW = 4
Instruction = tuple[int, int, int, int]


def _here() -> int | None:
    """The column of this machine's numbers, where there is one for this interpreter."""
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        return None
    return {"x86_64": 0, "aarch64": 1}.get(os.uname().machine)


def available() -> bool:
    """Whether the kernel takes such a program here."""
    column = _here()
    if column is None:
        return False
    action = ctypes.byref(ctypes.c_uint32(_ERRNO))
    return bool(ctypes.CDLL(None, use_errno=True).syscall(_SECCOMP[column], _GET_ACTION_AVAILABLE, 0, action) == 0)


def refuse(*, programs: bool) -> None:
    """Refuse this thread, and what it starts, those calls, for good; `programs` says that it may still become another program. Raises: OSError."""
    column = _here()
    if column is None:
        raise OSError(errno.ENOSYS, "no filter for this machine")
    code = b"".join(struct.pack("=HBBI", *each) for each in _program(column, os.getpid(), programs=programs))
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    # Without the flag, kernels before 5.16 slow the whole process down for it.
    if libc.syscall(_SECCOMP[column], _SET_MODE_FILTER, _SPEC_ALLOW, program) != 0:
        raise OSError(ctypes.get_errno(), "seccomp refused the filter")


def _program(column: int, pid: int, *, programs: bool) -> list[Instruction]:
    """Numbers that are refused first, then those that depend on an argument; each of these gives its verdict by itself, for it has loaded over the number."""
    refused = [each[column] for each in {**REFUSED, **({} if programs else PROGRAMS)}.values()]
    deny, absent, allow = (_GIVE, 0, 0, _ERRNO | errno.EPERM), (_GIVE, 0, 0, _ERRNO | errno.ENOSYS), (_GIVE, 0, 0, _ALLOW)
    code: list[Instruction] = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, (_X86_64, _AARCH64)[column]),
        deny,  # calls of another machine, such as i386's
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _NEWEST + 1),  # x32's among them
        absent,
        (_EQUAL, 0, 1, _CLONE3[column]),  # its flags lie in memory, where no filter looks; C libraries fall back to clone
        absent,
    ]
    for number in sorted(filter(None, refused)):
        code += [(_EQUAL, 0, 1, number), deny]
    # Threads only, and no namespaces.
    code += [
        (_EQUAL, 0, 5, _CLONE[column]),
        (_LOAD, 0, 0, _ARGUMENTS),
        (_ANY_OF, 0, 2, _CLONE_THREAD),
        (_ANY_OF, 1, 0, _CLONE_NEW),
        allow,
        deny,
    ]
    # It stays tied to its parent's life.
    code += [(_EQUAL, 0, 4, _PRCTL[column]), (_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 1, 0, _PR_SET_PDEATHSIG), allow, deny]
    for numbers in _TO_ITSELF.values():
        code += [(_EQUAL, 0, 4, numbers[column]), (_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 0, 1, pid), allow, deny]
    for numbers in _OF_ITSELF.values():
        code += [(_EQUAL, 0, 5, numbers[column]), (_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 1, 0, 0), (_EQUAL, 0, 1, pid), allow, deny]
    return [*code, allow]
