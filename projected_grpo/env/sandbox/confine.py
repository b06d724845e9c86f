"""The kernel layers that confine a program: capabilities, no_new_privs, Landlock, seccomp and resource limits.

Runs inside the fork-server, which imports the standard library alone. Each layer is a raw system call, so that nothing
has to be installed; a call that fails raises OSError with the layer's name. x86_64 Linux, Landlock ABI 1 (Linux 5.13)
or newer.
"""

import ctypes
import os
import resource
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 24, 22, 38
CAPSET, CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 126, 444, 445, 446  # system calls of x86_64
SIGKILL = 9

WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14  # Landlock's rights
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}  # by ABI; later: one bit more

# What a computation, an import and a write to an open file need. Not sched_yield, with which a program can look as if
# it had been kept waiting for a core.
ALLOWED = (
    0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21,  # read write close stat .. mmap .. access
    23, 25, 27, 28, 32, 33, 34, 35, 36, 37, 38, 39,  # select mremap madvise dup pause sleep timers
    60, 63, 77, 78, 79, 80, 89, 95, 96, 97, 98, 99, 100,  # exit uname ftruncate getdents getcwd chdir readlink usage
    102, 104, 107, 108, 110, 111, 118, 120, 121, 124, 127, 131,  # identity, sigaltstack
    186, 201, 202, 204, 217, 219, 228, 229, 230, 231,  # gettid time futex affinity getdents64 clocks exit_group
    262, 267, 269, 270, 271, 273, 292, 309, 318, 332, 334, 439,  # newfstatat readlinkat .. getrandom statx faccessat2
)  # fmt: skip
FATAL = (101, 165, 246, 298, 310, 311, 313, 321, 323, 425, 426, 427, 434, 438)  # ptrace mount kexec perf process_vm bpf ..
FCNTL, OPENAT, IOCTL, PRLIMIT = 72, 257, 16, 302
FCNTL_COMMANDS = (0, 1, 2, 3, 1030)  # F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC
IOCTL_REQUESTS = (0x5401, 0x5413, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONCLEX FIOCLEX
ARCH_X86_64 = 0xC000003E
ALLOW, EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000


def checked(value: int, layer: str) -> int:
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{layer}: {os.strerror(number)}")
    return value


def prctl(layer: str, *arguments) -> None:
    words = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (*arguments, 0, 0)]
    checked(LIBC.prctl(*words), layer)


def drop_capabilities() -> None:
    """All of them, for root and, trivially, for anybody else."""
    if os.geteuid() == 0:
        for capability in range(int(open("/proc/sys/kernel/cap_last_cap").read()) + 1):
            prctl("capabilities", PR_CAPBSET_DROP, capability, 0)
    header, sets = struct.pack("Ii", 0x20080522, 0), bytes(24)
    checked(LIBC.syscall(CAPSET, header, sets), "capabilities")


def no_new_privileges() -> None:
    prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1, 0)


class Landlock:
    """A ruleset: everything that the kernel's ABI can deny is denied, but for the given paths."""

    def __init__(self, readable: list[str], writable: list[str]) -> None:
        abi = checked(LIBC.syscall(CREATE_RULESET, None, 0, 1), "Landlock")
        self.rights = FILE_RIGHTS.get(abi, (1 << 16) - 1)
        network = 0b11 if abi >= 4 else 0
        scopes = 0b11 if abi >= 6 else 0  # abstract sockets and signals to other processes
        attributes = struct.pack("QQQ", self.rights, network, scopes)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
        self.descriptor = checked(LIBC.syscall(CREATE_RULESET, attributes, len(attributes), 0), "Landlock")
        for path in readable:
            self._allow(path, READ_FILE | READ_DIR)
        for path in writable:
            self._allow(path, READ_FILE | WRITE_FILE | TRUNCATE)

    def _allow(self, path: str, rights: int) -> None:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not os.path.isdir(path):
            rights &= ~READ_DIR
        rule = struct.pack("=Qi", rights & self.rights, descriptor)
        checked(LIBC.syscall(ADD_RULE, self.descriptor, 1, rule, 0), "Landlock")
        os.close(descriptor)

    def restrict(self) -> None:
        checked(LIBC.syscall(RESTRICT_SELF, self.descriptor, 0), "Landlock")


class Seccomp:
    """A filter that allows the system calls of a computation, kills for those that attack, and refuses the rest."""

    def __init__(self) -> None:
        code = [_load(4), *_unless_equal(ARCH_X86_64, KILL), _load(0)]
        for number in FATAL:
            code += _if_equal(number, KILL)
        for number in ALLOWED:
            code += _if_equal(number, ALLOW)
        code += _when(FCNTL, [_load(24), *(step for c in FCNTL_COMMANDS for step in _if_equal(c, ALLOW)), _give(EPERM)])
        code += _when(IOCTL, [_load(24), *(step for r in IOCTL_REQUESTS for step in _if_equal(r, ALLOW)), _give(EPERM)])
        # prlimit64 may ask, not set: the pointer to new limits is null
        code += _when(PRLIMIT, [_load(32), *_unless_equal(0, EPERM), _load(36), *_unless_equal(0, EPERM), _give(ALLOW)])
        # openat may neither truncate a file that it opens for reading nor use the fourth access mode, for which Landlock
        # asks no right
        modes = [_load(32), _and(os.O_ACCMODE), *_if_equal(3, EPERM), _load(32), _and(os.O_TRUNC | os.O_ACCMODE)]
        code += [*_when(OPENAT, [*modes, *_if_equal(os.O_TRUNC, EPERM), _give(ALLOW)]), _give(EPERM)]
        self.code = b"".join(code)
        self.buffer = ctypes.create_string_buffer(self.code, len(self.code))
        self.program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(self.buffer))

    def restrict(self) -> None:
        prctl("seccomp", PR_SET_SECCOMP, 2, self.program)


def _load(offset: int) -> bytes:
    return struct.pack("HBBI", 0x20, 0, 0, offset)


def _and(bits: int) -> bytes:
    return struct.pack("HBBI", 0x54, 0, 0, bits)


def _give(action: int) -> bytes:
    return struct.pack("HBBI", 0x06, 0, 0, action)


def _if_equal(value: int, action: int) -> list[bytes]:
    return [struct.pack("HBBI", 0x15, 0, 1, value), _give(action)]


def _unless_equal(value: int, action: int) -> list[bytes]:
    return [struct.pack("HBBI", 0x15, 1, 0, value), _give(action)]


def _when(number: int, steps: list[bytes]) -> list[bytes]:
    """`steps`, which end with an action, for one system call; the accumulator holds the number before and after."""
    return [struct.pack("HBBI", 0x15, 0, len(steps), number), *steps]


def limit(memory_mb: int, file_mb: int) -> None:
    """Hard limits that forks inherit; the memory counts on top of what this process has mapped."""
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    for kind, value in [
        (resource.RLIMIT_AS, mapped + (memory_mb << 20)),
        (resource.RLIMIT_FSIZE, file_mb << 20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_MEMLOCK, 0),
    ]:
        resource.setrlimit(kind, (value, value))


def limit_cpu(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def die_with_parent(parent: int) -> None:
    prctl("parent death signal", PR_SET_PDEATHSIG, SIGKILL, 0)
    if os.getppid() != parent:
        os._exit(1)


def readable_paths() -> list[str]:
    """The standard library and the system's shared libraries, which a late import may need."""
    library = os.path.dirname(os.__file__)
    paths = (library, f"{sys.base_prefix}/lib", "/lib", "/lib64", "/usr/lib", "/usr/lib64")
    return [path for path in paths if os.path.isdir(path)]
