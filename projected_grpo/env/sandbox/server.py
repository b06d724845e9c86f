"""The fork-server: a clean, single-threaded interpreter that forks once for every program.

Started as a script by forkserver.py. A request on the control socket is one byte with three descriptors (job, standard
output, frames); the server never reads the job, and the answer is one fixed record about how the process ended. When
the trainer dies, the control socket ends, which kills the program that runs and then the server.
"""

import builtins
import gc
import os
import select
import signal
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import child  # noqa: E402
import confine  # noqa: E402
from protocol import ANSWER, FILE_MB, FRAMES, READY  # noqa: E402

sys.path.remove(HERE)

# what programs import most, so that a fork has it already
import bisect, collections, datetime, functools, heapq, itertools, math, operator, random, re, string, typing  # noqa


class Layers:
    """Everything between a program and the machine: made once, entered by each fork."""

    def __init__(self, cpu_s: int, memory_mb: int) -> None:
        if os.uname().machine != "x86_64":
            raise OSError(f"system calls: found {os.uname().machine}, expected x86_64, whose numbers the filter knows")
        self.cpu_s = cpu_s
        self.null = os.open(os.devnull, os.O_RDWR)
        seconds_without_a_core(os.getpid())  # fails now, not at the first program that reaches the wall limit
        confine.drop_capabilities()
        confine.no_new_privileges()
        confine.limit(memory_mb, FILE_MB)
        self.landlock = confine.Landlock(confine.readable_paths(), [*os.listdir(), os.devnull])
        self.seccomp = confine.Seccomp()

    def enter(self, stdout: int, frames: int, server: int) -> None:
        """In the fork: descriptors 0 null, 1 standard output, 2 null, 3 frames and no other; then every limit."""
        confine.die_with_parent(server)
        for source, target in ((self.null, 0), (stdout, 1), (self.null, 2), (frames, FRAMES)):
            os.dup2(source, target)
        self.landlock.restrict()
        os.closerange(FRAMES + 1, 1 << 16)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the interpreter ignores it
        confine.limit_cpu(self.cpu_s)
        self.seccomp.restrict()


def serve(control: socket.socket, layers: Layers, wall_s: float) -> None:
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, 1, 3)
        if not request:
            return
        answer = run(control, descriptors, layers, wall_s)
        for descriptor in descriptors:
            os.close(descriptor)
        if not answer:
            return
        control.sendall(answer)


def run(control: socket.socket, descriptors: list[int], layers: Layers, wall_s: float) -> bytes:
    """Fork, and wait for the program's end or kill it. Nothing is returned where the trainer has gone."""
    began, server = time.monotonic(), os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            job, stdout, frames = descriptors
            text = os.pread(job, os.fstat(job).st_size, 0)
            layers.enter(stdout, frames, server)
            child.main(text)
        finally:
            os._exit(1)
    handle = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    poller.register(control, select.POLLIN)  # readable before the answer is sent: the trainer has gone
    ready = {descriptor for descriptor, _ in poller.poll(wall_s * 1000)}
    waited = 0.0 if ready else seconds_without_a_core(pid)
    os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own; it cannot have descendants
    _, status, usage = os.wait4(pid, 0)
    os.close(handle)
    if control.fileno() in ready:
        return b""
    return ANSWER.pack(status, usage.ru_utime + usage.ru_stime, time.monotonic() - began, waited, usage.ru_nvcsw, not ready)


def seconds_without_a_core(pid: int) -> float:
    """How long a process was ready to run and had no core."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


def main() -> None:
    number, folder, cpu_s, wall_s, memory_mb = sys.argv[1:]
    control = socket.socket(fileno=int(number))
    os.chdir(folder)
    try:
        layers = Layers(int(cpu_s), int(memory_mb))
    except (OSError, ValueError) as error:  # ValueError: a limit of the user's own is lower
        control.sendall(str(error).encode())
        return
    control.sendall(READY)
    sys.argv[:] = ["program"]
    builtins.exit = builtins.quit = sys.exit  # the site module, which defines them, is not loaded
    sys.dont_write_bytecode = True  # a late import cannot write beside the standard library
    sys.setrecursionlimit(3000)
    compile("", "", "exec")  # the first call makes the classes of the syntax tree, milliseconds that each fork would spend
    gc.collect()
    gc.freeze()
    try:
        serve(control, layers, float(wall_s))
    except ConnectionError:  # the trainer died with an answer unread
        pass
    finally:
        for name in os.listdir():
            os.unlink(name)
        os.rmdir(folder)


if __name__ == "__main__":
    main()
