"""A program that tries to break each layer of the sandbox, run at every start."""

LAYERS = (
    "Landlock: reading", "Landlock: writing", "seccomp: network", "seccomp: processes", "seccomp: limits",
    "seccomp: truncating", "execution of programs", "signals to processes", "limit of memory", "limit of CPU time",
    "limit of file size", "limit of open files", "no inherited descriptor", "no inherited environment", "no other argument",
    "seccomp: traces of others",
)  # fmt: skip

PROGRAM = '''
import os, resource, signal, socket, sys

def refused(action, *arguments):
    try:
        action(*arguments)
    except PermissionError:
        return True
    return False

def raised(error, action, *arguments):
    try:
        action(*arguments)
    except error:
        return True
    return False

def is_open(number):
    try:
        os.close(os.dup(number))
    except OSError:
        return False
    return True

def fork():
    if os.fork() == 0:
        os._exit(0)

def fill():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for _ in range(16):
        os.write(1, bytes(1 << 20))

def solve(memory_mb, marker):
    library = os.__file__
    return {
        "no inherited descriptor": not any(is_open(number) for number in range(4, 64)),
        "Landlock: reading": refused(open, "/etc/passwd") and refused(open, "/proc/self/status") and refused(open, library),
        "Landlock: writing": refused(open, "new", "w") and refused(open, library, "r+") and refused(os.mkdir, "new"),
        "seccomp: network": refused(socket.socket) and refused(socket.socketpair, socket.AF_INET),
        "seccomp: traces of others": refused(os.stat, library) and refused(os.fstat, 1) and refused(resource.getrusage, 0),
        "seccomp: processes": refused(fork),
        "execution of programs": refused(os.execv, sys.executable, [sys.executable]),
        "signals to processes": refused(os.kill, os.getppid(), 0),
        "seccomp: limits": raised(ValueError, resource.setrlimit, resource.RLIMIT_CORE, (0, 0)),
        "seccomp: truncating": all(refused(os.open, marker, mode | os.O_TRUNC) for mode in (os.O_RDONLY, 3)),
        "limit of memory": raised(MemoryError, bytearray, (memory_mb + 1) << 20),
        "limit of CPU time": 0 < resource.getrlimit(resource.RLIMIT_CPU)[1] < 10 ** 6,
        "limit of file size": raised(OSError, fill),
        "limit of open files": raised(OSError, lambda: [os.dup(1) for _ in range(100)]),
        "no inherited environment": set(os.environ) <= {"PATH", "PYTHONHASHSEED", "LC_CTYPE"},
        "no other argument": sys.argv == ["program"],
    }
'''
