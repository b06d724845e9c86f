"""The trainer's handle of one fork-server: start it, hand it a job, read what the program left, restart it."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from projected_grpo.core.errors import InputError
from projected_grpo.programs.sandbox.frames import FRAME_LIMIT
from projected_grpo.programs.sandbox.library import library
from projected_grpo.programs.sandbox.protocol import ANSWER, READY, REQUEST
from projected_grpo.prompts.modes import WRITABLE_FILES
from projected_grpo.settings.profile import Grading

SERVER = Path(__file__).with_name("server.py")
STDOUT_LIMIT = 1 << 16  # bytes that are looked at
GRACE_S = 10  # a server that answers this much later than the wall limit is lost


class SandboxError(InputError):
    """The machine cannot confine programs; the message names the missing layer."""


@dataclass(frozen=True)
class Ended:
    """How one program's process ended, seen from outside."""

    wait_status: int
    cpu_s: float
    wall_s: float
    waited_s: float  # ready to run, but without a core
    rests: int  # times it gave up its core by itself
    timed_out: bool  # stopped at the wall limit
    stdout: bytes
    frames: bytes
    written: dict[str, bytes]  # content of each writable file that is not empty


class ForkServer:
    def __init__(self, limits: Grading, hash_seed: int) -> None:
        self.limits, self.hash_seed = limits, hash_seed
        self._start()

    def run(self, job: bytes, stdin: bytes, cpu_s: int) -> Ended | None:
        """None where the server was lost; a new one is in its place then."""
        for descriptor in self.writable.values():
            os.ftruncate(descriptor, 0)
            os.utime(descriptor, (0, 0))  # a program can look up when the one before it read the file
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        given, stdout, frames = files = [os.memfd_create(name, flags) for name in ("stdin", "stdout", "frames")]
        try:
            fcntl.fcntl(frames, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)  # what was written stays
            os.pwrite(self.job.fileno(), job, 0)
            if stdin:
                os.pwrite(given, stdin, 0)
            try:
                socket.send_fds(self.control, [REQUEST.pack(len(job), cpu_s)], files)
                answer = self.control.recv(ANSWER.size, socket.MSG_WAITALL)
            except OSError:  # broken, or later than the time-out
                answer = b""
            if len(answer) < ANSWER.size:
                self.close()
                self._start()
                return None
            contents = {name: os.pread(descriptor, 1 << 10, 0) for name, descriptor in self.writable.items()}
            return Ended(
                *ANSWER.unpack(answer),
                stdout=os.pread(stdout, STDOUT_LIMIT, 0),
                frames=os.pread(frames, min(os.fstat(frames).st_size, FRAME_LIMIT + 1), 0),
                written={name: content for name, content in contents.items() if content},
            )
        finally:
            for descriptor in files:
                os.close(descriptor)

    def close(self) -> None:
        self.control.close()
        self.job.close()
        while self.writable:
            os.close(self.writable.popitem()[1])
        try:
            self.process.wait(timeout=1)  # it ends with its control socket
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)  # gone already, unless the server was killed

    def _start(self) -> None:
        limits = self.limits
        self.folder = tempfile.mkdtemp(prefix="pgrpo-")
        opened = os.O_RDWR | os.O_CREAT | os.O_EXCL
        self.writable = {name: os.open(f"{self.folder}/{name}", opened, 0o600) for name in WRITABLE_FILES}
        self.job = open(os.memfd_create("job"), "wb", buffering=0)  # of all jobs, one after the other
        self.control, theirs = socket.socketpair()
        with theirs:
            passed = (theirs.fileno(), self.job.fileno(), library())
            arguments = map(str, (self.folder, *passed, limits.wall_s, limits.memory_mb))
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-X", "utf8", str(SERVER), *arguments],
                env={"PYTHONHASHSEED": str(self.hash_seed), "PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=passed,
                start_new_session=True,  # the terminal's signals are for the trainer
            )
        self.control.settimeout(limits.wall_s + GRACE_S)
        try:
            greeting = self.control.recv(1 << 10)
        except OSError as error:
            greeting = str(error).encode()
        if greeting != READY:
            self.close()
            raise SandboxError(f"programs cannot be confined on this machine: {greeting.decode() or 'the server ended'}")
