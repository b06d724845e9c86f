"""A model hub on this machine: serves folders to huggingface_hub as the real one does, and refuses as the real one does.

`python -m verify.hub CALLS` is a process whose hub is the one that its environment names.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from projected_grpo.base_models.hub import fetch_and_save
from projected_grpo.core.errors import InputError
from projected_grpo.problems.leetcode import read_problems
from projected_grpo.settings.models import HubModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # the one revision that exists
PLACE = re.compile(r"(?:/api)?(?:/models|/datasets)?/(?P<name>\w+/[\w-]+)/(?P<action>tree|resolve)/(?P<revision>\w+)/?(?P<file>.*)")


class Handler(BaseHTTPRequestHandler):
    def __init__(self, repositories: dict[str, Path], *arguments) -> None:
        self.repositories = repositories
        super().__init__(*arguments)

    def do_GET(self) -> None:
        place = PLACE.fullmatch(urlsplit(self.path).path)
        if place is None or place["name"] not in self.repositories:
            self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif place["revision"] != COMMIT:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif place["action"] == "tree":
            files = sorted(self.repositories[place["name"]].iterdir())
            listing = [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _etag(file)} for file in files]
            self._answer(200, json.dumps(listing).encode(), {})
        elif (file := self.repositories[place["name"]] / place["file"]).is_file():
            self._answer(200, file.read_bytes(), {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": COMMIT})
        else:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *arguments) -> None:
        pass


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def hub(repositories: dict[str, Path]) -> Iterator[str]:
    """The address at which the folders are served by name, each at the revision COMMIT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, repositories))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def outcomes(calls: list[list], address: str, home: Path, offline: bool) -> list[str]:
    """What `answer` gives for each call, in a process whose hub is at `address` and whose cache is in `home`."""
    own = ("HF_", "PGRPO_", "PYTHONDONTWRITEBYTECODE", "http_proxy", "HTTP_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline)), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-m", "verify.hub", json.dumps(calls)]
    done = subprocess.run(command, env=kept | settings, text=True, capture_output=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def answer(kind: str, source: str | dict, folder: str = "") -> str:
    """The names of the problems of `source`, or "written" for its model in `folder`; or the refusal of either."""
    try:
        if kind == "problems":
            return " ".join(problem.name for problem in read_problems(source))
        fetch_and_save(HubModel(**source), Path(folder))
        return "written"
    except InputError as error:
        return str(error)


if __name__ == "__main__":
    print(json.dumps([answer(*call) for call in json.loads(sys.argv[1])]))
