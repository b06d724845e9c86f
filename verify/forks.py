"""The gates start DVC and most stages as forks of one process that has imported their libraries, seconds sooner each.

Nothing of the project is imported before the fork, so a stage imports the code of its own workspace. `make smoke` starts
stages as users do, and so does the gate of a training that is killed twice, whose tables have the bytes of a fork's.

`python -m verify.forks SOCKET` serves. The `python` beside the socket asks it to run a stage or DVC, and is the interpreter
for anything else.
"""

import atexit
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

LIBRARIES = (
    "beartype", "dvc.cli", "dvc.commands.repro", "dvc.repo.reproduce", "jaxtyping", "matplotlib.pyplot", "networkx", "pyarrow.parquet",
    "pydantic", "rich.console", "ruamel.yaml", "scipy.stats", "sklearn.linear_model", "sklearn.metrics", "torch", "transformers", "typer",
)  # fmt: skip
CLIENT = f"""#!{sys.executable} -ISs
import os, socket, sys
if sys.argv[1:2] != ["-m"] or not sys.argv[2].startswith(("stages.", "dvc")):
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
import json
request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.path.join(os.path.dirname(__file__), "socket"))
    socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(request)
    status = server.recv(4, socket.MSG_WAITALL)
os._exit(int.from_bytes(status, "big") if status else 70)
"""


@cache
def start() -> Path:
    """The folder of `python` and of the socket at which it finds the server, which ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="forks-"))
    atexit.register(shutil.rmtree, folder)
    address, client = folder / "socket", folder / "python"
    client.write_text(CLIENT)
    client.chmod(0o755)
    server = subprocess.Popen([sys.executable, "-m", "verify.forks", str(address)])
    while not address.exists():
        if server.poll() is not None:
            raise RuntimeError(f"the server of forks ended with {server.returncode}")
        time.sleep(0.02)
    return folder


def serve(address: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address) + ".partial")
        listening.listen(8)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
        os.rename(str(address) + ".partial", address)
        parent = os.getppid()
        while os.getppid() == parent:
            if select.select([listening], [], [], 5)[0]:
                connection, _ = listening.accept()
                if os.fork() == 0:
                    listening.close()
                    answer(connection)
                connection.close()


def answer(connection: socket.socket) -> None:
    """Run the stage in a fork and send its exit status; kill it where the asking process is gone. Never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    arguments, folder, environment = json.loads(connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    stage = os.fork()
    if stage == 0:
        connection.close()
        run(arguments, folder, environment, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    ended = os.pidfd_open(stage)
    if connection in select.select([ended, connection], [], [])[0]:
        os.kill(stage, signal.SIGKILL)
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1])
    connection.sendall((status if status >= 0 else 128 - status).to_bytes(4, "big"))
    os._exit(0)


def run(arguments: list[str], folder: str, environment: dict[str, str], descriptors: list[int]) -> None:
    """Become `python -m ARGUMENTS` in that folder. Never returns."""
    for descriptor, standard in zip(descriptors, (0, 1, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.modules["torch"].set_num_threads(int(environment.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))  # as when it loads
    sys.argv[:] = arguments
    sys.path[0] = folder
    code = 0
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def preload() -> None:
    """What takes long to import. Not polars, whose threads a fork would lose."""
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # read when torch loads, as in the project
    for name in LIBRARIES:
        importlib.import_module(name)
    for name in ("AutoModelForCausalLM", "AutoTokenizer", "LlamaForCausalLM", "PreTrainedTokenizerFast"):
        getattr(sys.modules["transformers"], name)  # imports the module that has it


if __name__ == "__main__":
    preload()
    serve(Path(sys.argv[1]))
