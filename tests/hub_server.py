"""A small Hub on loopback: what huggingface_hub's client asks of the real one to create, fill and read repositories.

    create -> preupload -> LFS batch, PUT -> commit          info, tree, paths-info, resolve

Repositories live in memory, a commit is a dictionary of path to bytes.  Every request is kept, so that tests may look.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN, READ_ONLY = "hf_thismaywrite", "hf_thismayread"  # of this server alone
LARGE = (".png", ".jpg", ".safetensors", ".bin", ".parquet")  # what the Hub keeps as LFS files
KINDS = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}


@dataclass
class Repository:
    """Commits, the newest last; ``refs`` name some."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        content = json.dumps({path: hashlib.sha1(data).hexdigest() for path, data in files.items()})  # noqa: S324 - as git
        sha = hashlib.sha1(f"{len(self.commits)}{content}".encode()).hexdigest()  # noqa: S324
        self.commits.append((sha, files))
        self.refs["main"] = sha
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        sha = self.refs.get(revision, revision)
        return next((one for one in self.commits if one[0] == sha), None)


@dataclass
class Hub:
    """What the server holds and what it was asked; ``fail`` may be set to a function of method and path."""

    url: str = ""
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    fail: Any = None

    def files(self, name: str, kind: str = "datasets", revision: str = "main") -> dict[str, bytes]:
        """Files of a repository."""
        return self.repositories[kind, name].at(revision)[1]

    def put(self, name: str, files: dict[str, bytes], kind: str = "datasets") -> str:
        """A commit by somebody else: these files beside those that are there."""
        repository = self.repositories.setdefault((kind, name), Repository(False))
        before = repository.commits[-1][1] if repository.commits else {}
        return repository.commit({**before, **files})


def git_oid(data: bytes) -> str:
    """What git calls a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 - as git


def entry(path: str, data: bytes) -> dict[str, Any]:
    """A file in a listing."""
    found = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
    if path.endswith(LARGE):
        sha256 = hashlib.sha256(data).hexdigest()
        found |= {"oid": git_oid(pointer(data)), "lfs": {"oid": sha256, "size": len(data), "pointerSize": 130}}
    return found


def pointer(data: bytes) -> bytes:
    """The text that stands in git for a large file."""
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()


@contextmanager
def serving() -> Iterator[Hub]:
    """A Hub that listens on loopback until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one(self) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = url.path
        self.hub.requests.append((self.command, path))
        if self.hub.fail is not None and (status := self.hub.fail(self.command, path)) is not None:
            return self.answer({"error": "broken on purpose"}, status)
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            return self.create(json.loads(self.body))
        if path == "/api/validate-yaml":
            wrong = "license: unheard-of" in json.loads(self.body)["content"]
            errors = [{"message": '"license" must be one of'}] if wrong else []
            return self.answer({"errors": errors, "warnings": []}, 400 if wrong else 200)
        if parts[0] == "upload":
            return self.upload(parts[1])
        if path.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(self.body))
        if parts[0] == "api" and len(parts) >= 4 and parts[1] in KINDS:
            return self.api(parts[1], "/".join(parts[2:4]), parts[4:])
        kind = parts[0] if parts[0] in KINDS else "models"
        rest = parts[1:] if parts[0] in KINDS else parts
        if len(rest) > 4 and rest[2] == "resolve":
            return self.resolve(kind, "/".join(rest[:2]), unquote(rest[3]), unquote("/".join(rest[4:])))
        return self.answer({"error": "Not Found"}, 404)

    do_GET = do_POST = do_PUT = do_HEAD = handle_one  # noqa: N815 - as http.server calls them

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def missing(self, what: str) -> None:
        self.answer({"error": f"{what} not found"}, 404, X_Error_Code=f"{what}NotFound", X_Error_Message=what)

    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def may_write(self) -> bool:
        if self.token() == TOKEN:
            return True
        status = 403 if self.token() == READ_ONLY else 401
        self.answer({"error": "Forbidden" if status == 403 else "Invalid username or password."}, status)
        return False

    def create(self, asked: dict[str, Any]) -> None:
        if not self.may_write():
            return
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        kind = f"{asked.get('type') or 'model'}s"
        url = {"url": f"{self.hub.url}/{KINDS[kind]}{name}", "name": name, "id": name}
        if (kind, name) in self.hub.repositories:
            return self.answer({"error": "You already created this repo", **url}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        repository = self.hub.repositories[kind, name] = Repository(private)
        repository.commit({".gitattributes": b"*.png filter=lfs\n"})
        self.answer(url)

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.answer({"error": "other bytes than promised"}, 400)
        self.hub.uploads[oid] = self.body
        self.answer({})

    def batch(self, asked: dict[str, Any]) -> None:
        if not self.may_write():
            return
        objects = []
        for one in asked["objects"]:
            action = {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}"}}
            objects.append({**one} if one["oid"] in self.hub.uploads else {**one, "actions": action})
        self.answer({"transfer": "basic", "objects": objects})

    def api(self, kind: str, name: str, rest: list[str]) -> None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository.private and not self.token()):
            return self.missing("Repo")
        what, revision = (rest[0] if rest else "revision"), unquote(rest[1]) if len(rest) > 1 else "main"
        found = repository.at(revision)
        if found is None:
            return self.missing("Revision")
        if what in ("preupload", "commit"):
            return self.may_write() and getattr(self, what)(f"{KINDS[kind]}{name}", repository, *found)
        getattr(self, {"paths-info": "paths"}.get(what, what))(kind, name, repository, *found, "/".join(rest[2:]))

    def refs(self, kind: str, name: str, repository: Repository, sha: str, files: dict, path: str) -> None:
        branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": s} for n, s in repository.refs.items()]
        self.answer({"branches": branches, "converts": [], "tags": []})

    def revision(self, kind: str, name: str, repository: Repository, sha: str, files: dict, path: str) -> None:
        sized = self.query.get("blobs", "").lower() in ("1", "true")
        siblings = [{"rfilename": one, **({"size": len(data)} if sized else {})} for one, data in files.items()]
        record = {"_id": "1", "id": name, "sha": sha, "private": repository.private, "siblings": siblings, "tags": []}
        self.answer({**record, "modelId": name, "gated": False, "disabled": False, "downloads": 0, "likes": 0})

    def tree(self, kind: str, name: str, repository: Repository, sha: str, files: dict, path: str) -> None:
        inside, deep = unquote(path), self.query.get("recursive", "").lower() in ("1", "true")
        prefix, listed = f"{inside}/" if inside else "", {}
        for file, data in files.items():
            if not file.startswith(prefix):
                continue
            steps = file.removeprefix(prefix).split("/")
            for depth in range(1, len(steps)):
                folder = prefix + "/".join(steps[:depth])
                if deep or depth == 1:
                    listed[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
            if deep or len(steps) == 1:
                listed[file] = entry(file, data)
        if inside and not listed:
            return self.missing("Entry")
        self.answer(list(listed.values()))

    def paths(self, kind: str, name: str, repository: Repository, sha: str, files: dict, path: str) -> None:
        text = self.body.decode()
        asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
        folders = {folder: 1 for one in files for folder in ["/".join(one.split("/")[:i]) for i in range(1, 9)]}
        found = [entry(one, files[one]) for one in asked if one in files]
        found += [
            {"type": "directory", "path": one, "oid": "0" * 40, "size": 0}
            for one in asked
            if one in folders and one not in files
        ]
        self.answer(found)

    def preupload(self, place: str, repository: Repository, sha: str, files: dict[str, bytes]) -> None:
        answers = []
        for one in json.loads(self.body)["files"]:
            path = one["path"]
            mode = "lfs" if path.endswith(LARGE) else "regular"
            oid = None  # of a large file the client compares the hash of its content
            if path in files:
                oid = hashlib.sha256(files[path]).hexdigest() if mode == "lfs" else git_oid(files[path])
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer({"files": answers})

    def commit(self, place: str, repository: Repository, sha: str, files: dict[str, bytes]) -> None:
        changed = dict(files)
        for line in self.body.splitlines():
            key, value = (one := json.loads(line))["key"], one["value"]
            if key == "header" and value.get("parentCommit", sha) != sha:
                return self.answer({"error": "A commit has happened since. Please refresh and try again."}, 412)
            if key == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                changed[value["path"]] = self.hub.uploads[value["oid"]]
            elif key == "deletedFile":
                del changed[value["path"]]
        new = repository.commit(changed)
        self.answer({"success": True, "commitOid": new, "commitUrl": f"{self.hub.url}/{place}/commit/{new}"})

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository.private and not self.token()):
            return self.missing("Repo")
        if (found := repository.at(revision)) is None:
            return self.missing("Revision")
        sha, files = found
        if path not in files:
            return self.answer(b"Entry not found", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        data = files[path]
        etag = entry(path, data).get("lfs", {}).get("oid") or git_oid(data)
        headers = {"X_Repo_Commit": sha, "ETag": f'"{etag}"', "X_Linked_Size": str(len(data))}
        self.answer(data, 200, Content_Length=str(len(data)), **headers)
