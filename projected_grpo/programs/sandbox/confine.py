"""The kernel layers that confine a program: capabilities, no_new_privs, Landlock, seccomp and resource limits.

Runs inside the fork-server, which imports the standard library alone. Each layer is a raw system call, so that nothing
has to be installed; a call that fails raises OSError with the layer's name. x86_64 Linux, Landlock ABI 1 (Linux 5.13)
or newer.
"""

import ctypes
import os
import resource
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
prctl, syscall = LIBC.prctl, LIBC.syscall  # looked up once, not in every fork
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 24, 22, 38
CAPSET, CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 126, 444, 445, 446  # system calls of x86_64
TIMER_CREATE, TIMER_SETTIME, CLOCK_PROCESS_CPUTIME = 222, 223, 2
SIGKILL = 9

WRITE_FILE, READ_FILE, TRUNCATE = 1 << 1, 1 << 2, 1 << 14  # Landlock's rights
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}  # by ABI; later: one bit more

# What a computation and a write to an open file need. Not sched_yield, with which a program can look as if it had been kept
# waiting for a core. Nothing by which a program could tell what another one did before it: no time of a file (the calls of
# stat), no page in the cache (mincore), no count of faults (getrusage), no memory of the machine (sysinfo).
ALLOWED = (
    0, 1, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20,  # read write close poll lseek mmap .. signals pread ..
    23, 25, 28, 32, 33, 34, 35, 36, 37, 38, 39,  # select mremap madvise dup pause sleep timers getpid
    60, 63, 77, 79, 95, 96, 97, 100,  # exit uname ftruncate getcwd umask time limits times
    102, 104, 107, 108, 110, 111, 118, 120, 127, 131,  # identity, sigaltstack
    186, 201, 202, 219, 231,  # gettid time futex restart exit_group
    270, 271, 273, 292, 309, 318, 334,  # pselect ppoll dup3 getcpu getrandom rseq
)  # fmt: skip
FATAL = (101, 165, 246, 298, 310, 311, 313, 321, 323, 425, 426, 427, 434, 438)  # ptrace mount kexec perf process_vm bpf ..
FCNTL, OPENAT, IOCTL, PRLIMIT, SOCKETPAIR = 72, 257, 16, 302, 53
OF_ITSELF = (121, 124, 204)  # getpgid getsid sched_getaffinity, of no other process
CLOCKS = (228, 229, 230)  # clock_gettime clock_getres clock_nanosleep
ANOTHER = 1 << 31  # of a clock: it is that of a process by its number
AF_UNIX = 1
FCNTL_COMMANDS = (0, 1, 2, 3, 1030)  # F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC
IOCTL_REQUESTS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONBIO FIONCLEX FIOCLEX
ARCH_X86_64 = 0xC000003E
ALLOW, EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000


def checked(value: int, layer: str) -> int:
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{layer}: {os.strerror(number)}")
    return value


def drop_capabilities() -> None:
    """All of them, for root and, trivially, for anybody else."""
    if os.geteuid() == 0:
        for capability in range(int(open("/proc/sys/kernel/cap_last_cap").read()) + 1):
            checked(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "capabilities")
    header, sets = struct.pack("Ii", 0x20080522, 0), bytes(24)
    checked(syscall(CAPSET, header, sets), "capabilities")


def no_new_privileges() -> None:
    checked(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


class Landlock:
    """A ruleset: everything that the kernel's ABI can deny is denied, but for the given paths."""

    def __init__(self, writable: list[str]) -> None:
        abi = checked(syscall(CREATE_RULESET, None, 0, 1), "Landlock")
        self.rights = FILE_RIGHTS.get(abi, (1 << 16) - 1)
        network = 0b11 if abi >= 4 else 0
        scopes = 0b11 if abi >= 6 else 0  # abstract sockets and signals to other processes
        attributes = struct.pack("QQQ", self.rights, network, scopes)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
        self.descriptor = checked(syscall(CREATE_RULESET, attributes, len(attributes), 0), "Landlock")
        for path in writable:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", (READ_FILE | WRITE_FILE | TRUNCATE) & self.rights, descriptor)
            checked(syscall(ADD_RULE, self.descriptor, 1, rule, 0), "Landlock")
            os.close(descriptor)

    def restrict(self) -> None:
        checked(syscall(RESTRICT_SELF, self.descriptor, 0), "Landlock")


class Seccomp:
    """A filter that allows the system calls of a computation, kills for those that attack, and refuses the rest.

    At its installation the kernel runs a filter for every number of a system call, so a number's answer is searched by
    halves, not in a row.
    """

    def __init__(self) -> None:
        answers: dict[int, Answer] = {
            **dict.fromkeys(FATAL, KILL),
            **dict.fromkeys(ALLOWED, ALLOW),
            FCNTL: [_load(24), *(_if_equal(command, ALLOW) for command in FCNTL_COMMANDS), _give(EPERM)],
            IOCTL: [_load(24), *(_if_equal(request, ALLOW) for request in IOCTL_REQUESTS), _give(EPERM)],
            # prlimit64 may ask, not set: the pointer to new limits is null; and of itself alone
            PRLIMIT: [_load(16), _if_equal(0, NEXT, EPERM), _load(32), _if_equal(0, NEXT, EPERM), _load(36), _if_equal(0, ALLOW, EPERM)],
            **dict.fromkeys(OF_ITSELF, [_load(16), _if_equal(0, ALLOW), _give(EPERM)]),
            **dict.fromkeys(CLOCKS, [_load(16), _and(ANOTHER), _if_equal(0, ALLOW), _give(EPERM)]),
            SOCKETPAIR: [_load(16), _if_equal(AF_UNIX, ALLOW), _give(EPERM)],  # both ends are the program's: an event loop's own
            # openat may neither truncate a file that it opens for reading nor use the fourth access mode or O_PATH, for which
            # Landlock asks no right
            OPENAT: [
                *(_load(32), _and(os.O_PATH), _if_equal(os.O_PATH, EPERM)),
                *(_load(32), _and(os.O_ACCMODE), _if_equal(3, EPERM)),
                *(_load(32), _and(os.O_TRUNC | os.O_ACCMODE), _if_equal(os.O_TRUNC, EPERM, ALLOW)),
            ],
        }
        steps = [_load(4), _if_equal(ARCH_X86_64, NEXT, KILL), _load(0), *_search(_ranges(answers))]
        self.code = _assembled(steps)
        self.buffer = ctypes.create_string_buffer(self.code, len(self.code))
        self.program = struct.pack("HxxxxxxQ", len(self.code) // 8, ctypes.addressof(self.buffer))

    def restrict(self) -> None:
        checked(prctl(PR_SET_SECCOMP, 2, self.program, 0, 0), "seccomp")


NEXT = 0
Step = tuple[int, int, int, int]  # operation, operand, where to go if it holds, and if not: an action or steps to skip
Answer = int | list[Step]  # to a system call: an action, or steps that end with one


def _load(offset: int) -> Step:
    return 0x20, offset, NEXT, NEXT


def _and(bits: int) -> Step:
    return 0x54, bits, NEXT, NEXT


def _give(action: int) -> Step:
    return 0x06, action, NEXT, NEXT


def _if_equal(value: int, then: int, otherwise: int = NEXT) -> Step:
    return 0x15, value, then, otherwise


def _ranges(answers: dict[int, Answer]) -> list[tuple[int, Answer]]:
    """(first number, answer) of each range of system calls with one answer, in order; the last has no end."""
    given = [answers.get(number, EPERM) for number in range(max(answers) + 2)]
    return [(number, answer) for number, answer in enumerate(given) if number == 0 or answer != given[number - 1]]


def _search(ranges: list[tuple[int, Answer]]) -> list[Step]:
    """Steps that find the range of the number in the accumulator."""
    middle = len(ranges) // 2
    halves = [half[0][1] if len(half) == 1 else _search(half) for half in (ranges[:middle], ranges[middle:])]
    below, above = (half if isinstance(half, list) else [] for half in halves)
    at_least = 0x35, ranges[middle][0], len(below) if above else halves[1], NEXT if below else halves[0]
    return [at_least, *below, *above]


def _assembled(steps: list[Step]) -> bytes:
    """The filter's bytes; each action stands once, at the end."""
    actions = (ALLOW, EPERM, KILL)
    code = []
    for at, (operation, operand, *targets) in enumerate([*steps, *map(_give, actions)]):
        skips = [len(steps) + actions.index(target) - at - 1 if target in actions else target for target in targets]
        code.append(struct.pack("HBBI", operation, *skips, operand))
    return b"".join(code)


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
    """SIGKILL after as much of this process's own time. The kernel's resource limit counts ticks, and may see twice the time, so it
    stands behind it, and is looser."""
    timer, due = ctypes.create_string_buffer(8), struct.pack("4q", 0, 0, seconds, 0)  # no repetition
    event = struct.pack("Qii48x", 0, SIGKILL, 0)
    checked(syscall(TIMER_CREATE, CLOCK_PROCESS_CPUTIME, event, timer), "CPU timer")
    checked(syscall(TIMER_SETTIME, int.from_bytes(timer.raw[:4], "little"), 0, due, None), "CPU timer")
    resource.setrlimit(resource.RLIMIT_CPU, (2 * seconds + 1, 2 * seconds + 2))


def die_with_parent(parent: int) -> None:
    checked(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "parent death signal")
    if os.getppid() != parent:
        os._exit(1)
