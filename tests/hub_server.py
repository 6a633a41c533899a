"""What stands for the Hugging Face hub: a server on loopback with the few endpoints that push and pull need."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_owner"


@dataclass
class Repository:
    visibility: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit_of(self, revision: str) -> str | None:
        """`main` is the newest commit; any other revision is a commit's hash."""
        return list(self.commits)[-1] if revision == "main" else revision if revision in self.commits else None


@dataclass
class Hub:
    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)


@contextmanager
def running_hub() -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if path == "/api/validate-yaml":
            return self._answer({"warnings": [], "errors": []})
        if not self._is_owner():
            return self._answer({"error": "Invalid username or password."}, status=401)
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}"
            known = name in hub.repositories
            hub.repositories.setdefault(name, Repository(request.get("visibility", "public")))
            return self._answer({"url": f"{hub.url}/{name}"}, status=409 if known else 200)
        name, action = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path).groups()  # type: ignore[union-attr]
        if action == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            return self._answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in names]})
        repository = hub.repositories[name]
        header, *added = [json.loads(line)["value"] for line in body.splitlines()]
        files = dict(repository.commits[repository.commit_of("main")]) if repository.commits else {}
        files |= {file["path"]: base64.b64decode(file["content"]) for file in added}
        repository.messages.append(header["summary"])
        commit = hashlib.sha1(body.encode() + str(len(repository.commits)).encode()).hexdigest()
        repository.commits[commit] = files
        return self._answer(
            {"commitUrl": f"{hub.url}/{name}/commit/{commit}", "commitOid": commit, "pullRequestUrl": None}
        )

    def do_GET(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)  # type: ignore[attr-defined]
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        found = api or re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/([^/]+)/(.+)", path)
        repository = hub.repositories.get(found[1]) if found else None
        if found is None or repository is None or (repository.visibility == "private" and not self._is_owner()):
            return self._answer({}, status=401, **{"X-Error-Code": "RepoNotFound"})
        commit = repository.commit_of(found[3])
        if commit is None:
            return self._answer({}, status=404, **{"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[commit]
        if found[2] == "revision":
            return self._answer({"id": found[1], "sha": commit})
        if found[2] == "tree":
            tree = [{"type": "file", "path": p, "size": len(c), "oid": _oid(c)} for p, c in files.items()]
            return self._answer(tree)
        if found[4] not in files:
            return self._answer({}, status=404, **{"X-Error-Code": "EntryNotFound"})
        content = files[found[4]]
        return self._answer(content, **{"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit})

    do_HEAD = do_GET

    def _is_owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _answer(self, value: Any, *, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
