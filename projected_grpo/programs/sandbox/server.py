"""The fork-server: a clean, single-threaded interpreter that forks once for every program.

Started as a script by forkserver.py. A request on the control socket is the length of the job, which lies in the job
file, and its CPU seconds, with three descriptors (standard input, standard output, frames); the server never reads the job, and
the answer is one fixed record about how the process ended. When the trainer dies, the control socket ends, which kills the program that runs and then
the server.
"""

import _socket
import builtins
import contextlib
import gc
import os
import select
import signal
import sys
import time

gc.disable()  # until the server forks: a collection leaves holes between its objects, and a page written by a fork is copied

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import child  # noqa: E402
import confine  # noqa: E402
import imports  # noqa: E402
from protocol import ANSWER, DESCRIPTORS, FILE_MB, FRAMES, READY, REQUEST  # noqa: E402

sys.path.remove(HERE)


class Layers:
    """Everything between a program and the machine: made once, entered by each fork."""

    def __init__(self, job: int, memory_mb: int) -> None:
        if os.uname().machine != "x86_64":
            raise OSError(f"system calls: found {os.uname().machine}, expected x86_64, whose numbers the filter knows")
        self.job = job
        seconds_without_a_core(os.getpid())  # fails now, not at the first program that reaches the wall limit
        confine.drop_capabilities()
        confine.no_new_privileges()
        confine.limit(memory_mb, FILE_MB)
        self.landlock = confine.Landlock([*os.listdir(), os.devnull])
        self.seccomp = confine.Seccomp()

    def enter(self, stdin: int, stdout: int, frames: int, cpu_s: int, server: int) -> None:
        """In the fork: descriptors 0 and 1 standard input and output, 2 null, 3 frames and no other; then every limit."""
        confine.die_with_parent(server)
        self.landlock.restrict()  # before another descriptor takes the number of its own
        null = os.open(os.devnull, os.O_RDWR)  # of its own: who shares an open file shares its flags, which FIONBIO changes
        for source, target in ((stdin, 0), (stdout, 1), (null, 2), (frames, FRAMES)):
            os.dup2(source, target)
        os.closerange(FRAMES + 1, 1 << 16)
        confine.limit_cpu(cpu_s)
        self.seccomp.restrict()


def serve(control: _socket.socket, layers: Layers, wall_s: float) -> None:
    room = _socket.CMSG_LEN(DESCRIPTORS.size)
    while True:
        request, ancillary, _, _ = control.recvmsg(REQUEST.size, room)
        if not request:
            return
        descriptors = DESCRIPTORS.unpack(ancillary[0][2])
        answer = run(control, *REQUEST.unpack(request), descriptors, layers, wall_s)
        for descriptor in descriptors:
            os.close(descriptor)
        if not answer:
            return
        control.sendall(answer)


def run(control: _socket.socket, length: int, cpu_s: int, descriptors: tuple[int, ...], layers: Layers, wall_s: float) -> bytes:
    """Fork, and wait for the program's end or kill it. Nothing is returned where the trainer has gone."""
    began, server = time.monotonic(), os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            job = os.pread(layers.job, length, 0)
            layers.enter(*descriptors, cpu_s, server)
            child.main(job)
        except OSError as error:  # a layer failed, and no program has run
            for stdout in (descriptors[1], 1):  # before and after it has its own number
                with contextlib.suppress(OSError):
                    os.write(stdout, str(error).encode())
        finally:
            os._exit(1)
    handle = os.pidfd_open(pid)
    ready = select.select((handle, control), (), (), wall_s)[0]  # control, before the answer is sent: the trainer has gone
    waited = 0.0 if ready else seconds_without_a_core(pid)
    if handle not in ready:
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own; it cannot have descendants
    _, status, usage = os.wait4(pid, 0)
    os.close(handle)
    if control in ready:
        return b""
    return ANSWER.pack(status, usage.ru_utime + usage.ru_stime, time.monotonic() - began, waited, usage.ru_nvcsw, not ready)


def seconds_without_a_core(pid: int) -> float:
    """How long a process was ready to run and had no core."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


def main() -> None:
    folder, number, job, library, wall_s, memory_mb = sys.argv[1:]
    control = _socket.socket(fileno=int(number))
    os.chdir(folder)
    imports.import_from_memory(int(library))
    os.close(int(library))
    try:
        layers = Layers(int(job), int(memory_mb))
    except (OSError, ValueError) as error:  # ValueError: a limit of the user's own is lower
        control.sendall(str(error).encode())
        return
    control.sendall(READY)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the interpreter ignores it
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the interpreter would raise it inside the program
    sys.argv[:] = ["program"]
    builtins.exit = builtins.quit = sys.exit  # the site module, which defines them, is not loaded
    sys.dont_write_bytecode = True  # a late import cannot write beside the standard library
    sys.setrecursionlimit(3000)
    child.warm()
    gc.freeze()
    gc.enable()
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
