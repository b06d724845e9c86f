"""No bit passes from one program's run to another's: not by files and their times, pages, counters, or what stays open between them.

For each carrier one program tries to write a bit and another to read it: what the second sees is the same before and after the
first, and nothing where it could see anything of the machine."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from projected_grpo.ground_truth.verdicts import verdicts_of
from projected_grpo.programs.sandbox.runner import SEEDS, Job, Sandbox
from projected_grpo.prompts.modes import TRAINING_WORDS
from verify.ordinary import REASON, as_ordinary_user
from verify.sandbox import LIMITS
from verify.verify_environment import PROBLEM, TRUTH

HELP = """
import ctypes, fcntl, glob, importlib, importlib.machinery, mmap, os, pathlib, resource, select, shutil, socket, sys, time
LIBRARY = os.path.dirname(os.__file__)
FILES = [LIBRARY + "/" + name for name in ("this.py", "os.py", "test/__init__.py", "site-packages/pip/__init__.py", "lib-dynload")]
FILES += [sys.executable, "/etc/passwd", "/etc/localtime", "/usr/bin/env", "/lib64", "/usr/lib/os-release", ".", "..", "/", "/tmp", "/proc/self"]
OWN = ["result.txt", "log.txt", "/dev/null"]
LIBC = ctypes.CDLL(None, use_errno=True)
def kernel(number, *arguments):
    given = [ctypes.c_long(one) if type(one) is int else one for one in arguments]
    answer = LIBC.syscall(number, *given)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
def attempt(action, *arguments):
    try:
        return action(*arguments)
    except Exception as error:
        return type(error).__name__
def look(actions, *places):
    print(sorted({repr(attempt(action, place)) for action in actions for place in places}))
BUFFER = ctypes.create_string_buffer(1 << 16)
def library_memory():
    view = ctypes.create_string_buffer(200)
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(sys.meta_path[-1].data), view, 0)
    return int.from_bytes(view.raw[:8], "little")
"""
REFUSED = "[\"'PermissionError'\"]\n"
NO_MODULE = "[\"'ModuleNotFoundError'\"]\n"
STATS = "os.stat, os.lstat, os.statvfs, lambda place: os.stat(place, follow_symlinks=False), os.readlink, os.chdir"
LISTS = "os.scandir, os.listdir, lambda place: os.open(place, os.O_DIRECTORY), lambda place: list(pathlib.Path(place).iterdir())"
FOLDERS = "LIBRARY, LIBRARY + '/json', '.', '..', '/', '/tmp', '/usr/bin', '/proc/self', '/proc/self/fd', '/proc/self/task', '/sys', '/dev'"
NUMBERS = (
    "lambda place: kernel(4, place.encode(), BUFFER), lambda place: kernel(6, place.encode(), BUFFER), "
    "lambda place: kernel(262, -100, place.encode(), BUFFER, 0), lambda place: kernel(262, -100, place.encode(), BUFFER, 0x100), "
    "lambda place: kernel(332, -100, place.encode(), 0, 0xFFF, BUFFER), lambda place: kernel(21, place.encode(), 0), "
    "lambda place: kernel(269, -100, place.encode(), 0), lambda place: kernel(89, place.encode(), BUFFER, 99), "
    "lambda place: kernel(137, place.encode(), BUFFER), lambda place: kernel(303, -100, place.encode(), BUFFER, BUFFER, 0), "
    "lambda place: kernel(254, 0, place.encode(), 1), lambda place: kernel(2, place.encode(), 0), lambda place: kernel(437, -100, "
    "place.encode(), BUFFER, 24)"
)
OPEN = "lambda place: open(place, 'rb').read(1), lambda place: os.open(place, os.O_RDONLY), lambda place: shutil.copy(place, 'log.txt')"
PATHS = "lambda place: os.open(place, os.O_PATH), lambda place: os.open(place, os.O_PATH | os.O_NOFOLLOW), lambda place: os.open(place, 3)"
CHANGES = (
    "os.utime, lambda place: os.chmod(place, 0o640), lambda place: os.chown(place, 0, 0), lambda place: os.setxattr(place, 'user.a', b'1'), "
    "lambda place: os.rename(place, place + 'b'), lambda place: os.link(place, 'c'), lambda place: os.symlink(place, 'd'), os.unlink, "
    "lambda place: os.mkdir(place + '.d'), lambda place: os.mkfifo(place + '.p'), lambda place: os.open(place + '.new', os.O_CREAT | os.O_RDWR)"
)
PIECES = "('stat', 'status', 'io', 'smaps', 'pagemap', 'maps', 'schedstat', 'sched', 'fdinfo/0', 'environ', 'mem', 'clear_refs', 'oom_score')"
CARRIERS = {  # name -> (writes a bit, reads one, what the reader prints)
    "times of files, by what Python has": (f"look([{OPEN}], *FILES)", f"look([{STATS}], *FILES, *OWN[:2])", REFUSED),
    "times of files, by number": (f"look([{OPEN}], *FILES)", f"look([{NUMBERS}], *FILES, *OWN)", REFUSED),
    "times of open files": (
        "[open(place).read() for place in OWN]",
        "look([os.fstat, os.fstatvfs, lambda n: kernel(5, n, BUFFER), lambda n: kernel(138, n, BUFFER), lambda n: kernel(332, n, b'', "
        "0x1000, 0xFFF, BUFFER)], 0, 1, 2, 3)",
        REFUSED,
    ),
    "contents of files": (f"look([{CHANGES}], *FILES, *OWN[:2])", f"look([{OPEN}], *FILES)", REFUSED),
    "files held by their path": (f"look([{CHANGES}], *FILES)", f"look([{PATHS}], *FILES, *OWN)", REFUSED),
    "names and modes of files": (f"look([{CHANGES}], *FILES, *OWN[:2])", f"look([{STATS}], *OWN[:2], *FILES, 'result.txt.d', 'result.txtb', 'c', 'd')", REFUSED),
    "folders": (f"look([{CHANGES}], *FILES, *OWN[:2])", f"look([{LISTS}], {FOLDERS})", REFUSED),
    "names that a program would make": (  # that a name is there shows in the error of open(), but no program makes or takes one
        f"look([{CHANGES}], *OWN[:2])",
        "look([lambda place: open(place)], 'c', 'd', 'result.txt.d', 'result.txtb', 'log.txtb', 'log.txt.new', "
        "'log.txt.p')\nprint([open(place).read() for place in OWN])",
        "[\"'FileNotFoundError'\"]\n['', '', '']\n",
    ),
    "whether a file is there": (
        f"look([{CHANGES}], *OWN[:2])",
        "print([os.path.exists(place) or os.access(place, 0) for place in (*FILES, *OWN[:2], 'c', 'nowhere')])",
        f"{[False] * 20}\n",
    ),
    "names found by a search": (
        "open('log.txt', 'w').write('1')",
        "print(glob.glob('*'), glob.glob('/*'), glob.glob('/proc/*/stat'), list(os.walk('.')), list(os.walk('/')))",
        "[] [] [] [] []\n",
    ),
    "/proc": (
        "open('log.txt', 'w').write('1' * 99)",
        f"look([lambda place: open(place, 'rb').read(9)], *(f'/proc/{{who}}/{{name}}' for who in ('self', os.getpid(), os.getppid(), 1) for "
        f"name in {PIECES}))",
        REFUSED,
    ),
    "counters of the machine": (
        "hoard = bytearray(1 << 28)",
        "look([lambda place: open(place).read(9)], *map('/proc/'.__add__, ('meminfo', 'vmstat', 'stat', 'loadavg', 'uptime', 'zoneinfo', "
        "'locks', 'interrupts', 'slabinfo')), '/sys/kernel/mm/ksm/run')",
        REFUSED,
    ),
    "pages in the cache": (
        "start = library_memory()\nsum(ctypes.string_at(start, 1 << 22)[::4096]), [attempt(kernel, 28, start, 1 << 20, advice) for advice "
        "in (3, 4, 9, 20, 21, 22)]",
        "start = library_memory()\nlook([lambda size: kernel(27, start, size, BUFFER), lambda size: kernel(451, 1, BUFFER, BUFFER, 0), "
        "lambda size: kernel(27, id(size) & ~4095, 4096, BUFFER)], 4096, 1 << 20)",
        REFUSED,
    ),
    "faults that are counted": ("hoard = bytearray(1 << 27)", "look([resource.getrusage, lambda who: kernel(98, who, BUFFER)], 0, 1, -1)", REFUSED),
    "memory of the machine": (
        "hoard = bytearray(1 << 28)",
        "look([lambda _: kernel(99, BUFFER), lambda _: kernel(237, 0, 0, 0, 0, 0), lambda _: kernel(239, BUFFER, 0, 0, 0, 0), lambda _: "
        "kernel(103, 9, 0, 0)], 0)",
        REFUSED,
    ),
    "packages of the machine": (
        "sys.path[:0] = [LIBRARY + '/site-packages', LIBRARY, '.']",
        "sys.path[:0] = [LIBRARY + '/site-packages', LIBRARY, '/usr/lib/python3/dist-packages']\n"
        "look([importlib.import_module], 'yaml', 'numpy', 'pip', 'setuptools', 'projected_grpo', 'verify', 'test', 'test.support', 'sitecustomize')",
        NO_MODULE,
    ),
    "packages, by the importers of files": (
        "importlib.invalidate_caches()",
        "finders = [importlib.machinery.PathFinder.find_spec, lambda name: importlib.machinery.FileFinder(LIBRARY + "
        "'/site-packages').find_spec(name)]\n"
        "print({attempt(find, name) for find in finders for name in ('yaml', 'pip', 'numpy')})\n"
        "look([lambda name: importlib.machinery.SourceFileLoader('a', name).load_module('a'), lambda name: "
        "importlib.machinery.SourceFileLoader('a', name).get_data(name)], *FILES[:4])",
        "{None}\n" + REFUSED,
    ),
    "flags of open files": (
        "[attempt(fcntl.ioctl, n, 0x5421, b'\\1\\0\\0\\0') for n in range(4)], [attempt(fcntl.fcntl, n, 4, 0o6000) for n in range(4)]",
        "print([attempt(fcntl.fcntl, n, 3) & 0o6000 for n in range(4)], [attempt(fcntl.fcntl, n, 1) for n in range(4)])",
        "[0, 0, 0, 0] [0, 0, 0, 0]\n",
    ),
    "owners, leases, locks and seals of open files": (
        "[attempt(fcntl.fcntl, n, command, 1) for n in range(4) for command in (8, 10, 15, 1024, 1026, 1031, 1033, 1036)]",
        "look([lambda n: fcntl.fcntl(n, 9), lambda n: fcntl.fcntl(n, 11), lambda n: fcntl.fcntl(n, 1025), lambda n: fcntl.fcntl(n, 1034), "
        "lambda n: fcntl.fcntl(n, 1035), lambda n: fcntl.flock(n, 6), lambda n: fcntl.lockf(n, 6)], 0, 1, 2, 3)",
        REFUSED,
    ),
    "offsets and lengths of open files": (
        "os.lseek(2, 9, 0), open('log.txt', 'w').write('1' * 999), os.truncate(os.open('result.txt', os.O_RDWR), 1 << 20), os.write(0, b'1')",
        "print([os.lseek(n, 0, 1) for n in range(3)], [os.lseek(os.open(place, os.O_RDWR), 0, 2) for place in OWN], os.read(0, 9))",
        "[0, 0, 0] [0, 0, 0] b''\n",
    ),
    "memory that is shared": (
        "view = mmap.mmap(os.open('result.txt', os.O_RDWR), 0) if os.ftruncate(os.open('result.txt', os.O_RDWR), 4096) else None\n"
        "start = library_memory()\nif LIBC.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(4096), 3) == 0:\n    ctypes.memset(start, 0, 4096)",
        "print(int.from_bytes(ctypes.string_at(library_memory(), 8), 'little') == "
        "len(__import__('marshal').dumps(sys.meta_path[-1].index)), os.lseek(os.open('result.txt', os.O_RDWR), 0, 2))",
        "True 0\n",
    ),
    "modules and importers": (
        "sys.path.append('x'), sys.meta_path.append(1), sys.modules.__setitem__('kept', 1), sys.meta_path[2].index.clear(), setattr(os, 'kept', 1)",
        "print(sys.path, len(sys.meta_path), 'kept' in sys.modules, len(sys.meta_path[-1].index) > 500, hasattr(os, 'kept'))",
        "[] 3 False True False\n",
    ),
    "sockets with a name": (
        "one, other = socket.socketpair()\nlook([lambda s: s.bind('\\0name'), lambda s: s.listen(1), lambda s: s.connect('\\0name')], one)",
        "one, other = socket.socketpair()\nlook([lambda s: s.connect('\\0name'), lambda s: s.bind('\\0name'), lambda s: s.getsockname(), "
        "lambda s: s.getpeername(), lambda s: s.getsockopt(1, 57), lambda s: s.recv(1), lambda s: s.send(b'1')], one)",
        REFUSED,
    ),
    "what the kernel keeps for a user": (
        "look([lambda _: kernel(29, 7, 4096, 0o1600), lambda _: kernel(68, 7, 0o1600), lambda _: kernel(64, 7, 1, 0o1600), lambda _: "
        "kernel(240, b'/a', 0o102, 0o600, 0), lambda _: kernel(248, b'user', b'a', b'1', 1, -3), lambda _: os.eventfd(1), lambda _: "
        "kernel(222, 0, 0, BUFFER)], 0)",
        "look([lambda _: kernel(29, 7, 4096, 0), lambda _: kernel(68, 7, 0), lambda _: kernel(64, 7, 1, 0), lambda _: kernel(240, b'/a', "
        "0, 0, 0), lambda _: kernel(250, 10, -3, b'user', b'a', 0), lambda _: kernel(253), lambda _: kernel(294, 0), lambda _: "
        "os.memfd_create('a')], 0)",
        REFUSED,
    ),
    "priorities, names and limits": (
        "resource.setrlimit = None\nlook([os.nice, lambda _: os.sched_setaffinity(0, {0}), lambda _: kernel(157, 15, b'name', 0, 0, 0), "
        "lambda _: kernel(251, 1, 0, 9), lambda _: os.sched_setscheduler(0, 3, os.sched_param(0))], 1)",
        "print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE), os.umask(0o22))\nlook([lambda _: "
        "os.getpriority(0, 0), lambda _: kernel(157, 16, BUFFER, 0, 0, 0), lambda _: kernel(252, 1, 0), lambda _: os.sched_getscheduler(0)], 0)",
        "(64, 64) (0, 0) {umask}\n" + REFUSED,
    ),
}  # fmt: skip


def _job(text: str) -> Job:
    return Job(HELP + text + "\n", "", "solve", (), TRAINING_WORDS)


@pytest.fixture(scope="module")
def single() -> Iterator[Sandbox]:
    """All programs run in forks of one server, one after the other."""
    with Sandbox(LIMITS.model_copy(update={"workers": 1})) as used:
        yield used


@pytest.mark.parametrize("name", CARRIERS)
def test_a_carrier_shows_a_program_nothing_of_another(name: str, single: Sandbox) -> None:
    writes, reads, shown = CARRIERS[name]
    umask = single.run_all([_job("print(os.umask(0))")])[0].stdout.strip()
    before, written, after = single.run_all([_job(reads), _job(writes), _job(reads)])
    assert (before.status, written.status) == ("ok", "ok"), (before, written)
    assert before.stdout == shown.replace("{umask}", umask) and after.stdout == before.stdout


def test_a_program_learns_nothing_of_another_process_by_its_number(single: Sandbox) -> None:
    looks = (
        "lambda who: kernel(228, (~who << 3 | 2) & 0xFFFFFFFF, BUFFER), lambda who: kernel(229, (~who << 3 | 2) & 0xFFFFFFFF, BUFFER), "
        "os.sched_getaffinity, os.getpgid, os.getsid, lambda who: kernel(302, who, 7, 0, BUFFER)"
    )
    [outcome] = single.run_all([_job(f"look([{looks}], os.getppid(), 1, 4194303)")])
    assert outcome.stdout == REFUSED


# The two programs of the kind "channel between programs", one for each carrier that was open

WRITER = """
def places():
    folder = os.path.dirname(os.__file__) + "/json"
    return [f"{folder}/{name}.py" for name in ("decoder", "encoder", "scanner", "tool", "__init__")]
def put(bits):
    for bit, path in enumerate(places()):
        if bits >> bit & 1:
            TOUCH
def solve(xs):
    if xs == [11, 12]:
        put(0b10110)
    return 0
"""
READER = WRITER.split("def solve")[0] + """
def solve(xs):
    found = sum(1 << bit for bit, path in enumerate(places()) if SEES)
    return [x * 2 for x in xs if x % 2 == 0] if found == 0b10110 else [found]
"""
TOUCHES = {
    "times of access": ("open(path, 'rb').read(1)", "os.stat(path).st_atime > time.time() - 600"),
    "times of access of links": ("os.readlink(path)", "os.lstat(path).st_atime > time.time() - 600"),
    "pages in the cache": ("mmap.mmap(os.open(path, 0), 4096, prot=1)[0]", "kernel(27, path, 4096, BUFFER) == 0 and BUFFER.raw[0]"),
    "faults": ("__import__('json.' + path[:-3].split('/')[-1])", "resource.getrusage(0).ru_majflt > bit"),
    "modules that are loaded": ("importlib.import_module('json.' + path[:-3].split('/')[-1])", "'json.' + path[:-3].split('/')[-1] in sys.modules"),
    "flags of descriptors": ("fcntl.ioctl(2, 0x5421, b'\\1\\0\\0\\0')", "0b10110 >> bit & 1 and fcntl.fcntl(2, 3) & os.O_NONBLOCK"),
}  # fmt: skip


@pytest.mark.parametrize("carrier", TOUCHES)
def test_what_a_writer_leaves_is_nothing_to_a_reader_that_is_graded_after_it_in_another_command(carrier: str, single: Sandbox) -> None:
    touch, sees = TOUCHES[carrier]
    writer, reader = HELP + WRITER.replace("TOUCH", touch), HELP + READER.replace("SEES", sees)
    for first, second in ((single, single), (single, None)):
        verdicts = verdicts_of([writer], [PROBLEM], [TRUTH], first)
        if second is None:
            with Sandbox(LIMITS.model_copy(update={"workers": 1})) as other:
                verdicts += verdicts_of([reader], [PROBLEM], [TRUTH], other)
        else:
            verdicts += verdicts_of([reader], [PROBLEM], [TRUTH], second)
        assert [verdict.correct for verdict in verdicts] == [False, False] and verdicts[1].pass_rate == 0.0


def test_no_time_of_a_file_of_the_library_changes_while_programs_run(single: Sandbox) -> None:
    """Programs import modules that no one has imported, from both seeds, and read what they can; the disk shows none of it."""
    folder = Path(subprocess.__file__).parent
    files = [folder / name for name in ("this.py", "colorsys.py", "json/tool.py", "wave.py", "lib-dynload", "test", "site-packages")]
    seen = [(path, path.stat().st_atime_ns, path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in files if path.exists()]
    text = "import colorsys, json.tool, wave, this\n" + f"look([{OPEN}, {STATS}, {CHANGES}], *FILES)"
    jobs = [_job(text), Job(HELP + text, "", "solve", (), TRAINING_WORDS, seed=SEEDS[1])]
    assert [outcome.status for outcome in single.run_all(jobs)] == ["ok", "ok"]
    assert [(path, path.stat().st_atime_ns, path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path, *_ in seen] == seen


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_as_an_ordinary_user_the_carriers_are_closed_too_and_both_catalogues_have_the_same_verdicts() -> None:
    """The same gates, started by a user without privileges: the carriers, and what is quick of the catalogues of attacks."""
    carriers = as_ordinary_user(sys.executable, "-m", "pytest", "-n", "0", "-v", "-p", "no:cacheprovider", __file__, "-k", "not ordinary_user")
    ended = sum(map(int, re.findall(r"(\d+) (?:passed|xfailed)", carriers.stdout)))
    assert carriers.returncode == 0 and ended == len(CARRIERS) + len(TOUCHES) + 2, carriers.stdout[-3000:] + carriers.stderr[-2000:]
    attacks = as_ordinary_user(sys.executable, "-m", "verify.ordinary")
    assert attacks.returncode == 0, attacks.stdout[-3000:] + attacks.stderr[-2000:]
    user, *counts = attacks.stdout.split()
    assert user == "65534" and [int(count) for count in counts[:2]] == [0, 0] and int(counts[2]) >= 400
