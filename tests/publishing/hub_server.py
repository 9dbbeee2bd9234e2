"""A Hub of our own on this machine, as far as uploading and loading need one, and every way in which it may fail.

Speaks what huggingface_hub asks: create, branch, refs, model info, tree, preupload, git-LFS (basic transfer), commit
and resolve. It is as strict as the Hub where that decides on what is published: a commit is one step, names bytes that
were stored under their own digest, and is refused where its parent is no longer the head.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

TOKEN = "hf_ThisTokenIsSecretAndMayAppearNowhere"
OTHER_TOKEN = "hf_OfSomebodyWhoMayReadOnly"
LFS_FROM = 20_000  # bytes, as the Hub's 10 MB
PAGE = 7  # entries of a listing; the Hub's is 1,000
GIT_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


def git_digest(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    """What git-LFS calls it."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit.

    Args:
        content: Its bytes.
        is_lfs: Whether it lies in the large storage.
    """

    content: bytes
    is_lfs: bool = False

    @property
    def digest(self) -> str:
        """By which clients tell whether they have it."""
        return sha256(self.content) if self.is_lfs else git_digest(self.content)


@dataclass
class Repository:
    """A repository: its commits, which never change, and where its branches are."""

    private: bool = False
    commits: dict[str, dict[str, StoredFile]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, StoredFile], message: str) -> str:
        """Makes a commit the head of a branch; gives its name."""
        content = sorted((name, file.digest) for name, file in files.items())
        oid = hashlib.sha1(repr((self.branches.get(branch), content, message)).encode()).hexdigest()
        self.commits[oid], self.messages[oid], self.branches[branch] = dict(files), message, oid
        return oid

    def find(self, revision: str) -> str | None:
        """The commit of a branch's or a commit's name."""
        return self.branches.get(revision, revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """The contents at a revision."""
        return {name: file.content for name, file in self.commits[self.find(revision)].items()}


@dataclass
class Fault:
    """Something that goes wrong.

    Args:
        path: Regular expression that is searched for in "METHOD path".
        times: How often; None for always.
        status: Answer with this status and change nothing.
        headers: Of that answer.
        body: Of that answer, sent as JSON.
        cut: Close the connection after so many bytes of what the client sends (PUT, POST), or of the answer (GET).
        delay: Seconds to wait before anything is done.
        corrupt: Turn one bit over: of what the client sends (PUT), or of the answer (GET).
        late: Answer with `status` after the work was done.
        then: Called when it happens.
    """

    path: str
    times: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    cut: int | None = None
    delay: float = 0
    corrupt: bool = False
    late: bool = False
    then: Callable[[], None] | None = None


class HubServer:
    """The server's state, and itself while it runs.

    Attributes:
        repositories: Id to repository.
        large: The large storage, SHA-256 to bytes.
        faults: What goes wrong; the first that fits a request is taken.
        requests: "METHOD path" of every request that came, in order.
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.lock = threading.RLock()
        handler = type("Handler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo_id: str, files: dict[str, bytes], private: bool = False) -> Repository:
        """Puts a repository there."""
        repository = self.repositories.setdefault(repo_id, Repository(private))
        stored = {name: StoredFile(content, is_large(name, len(content))) for name, content in files.items()}
        self.large |= {sha256(content): content for content in files.values()}
        repository.commit("main", {".gitattributes": StoredFile(GIT_ATTRIBUTES), **stored}, "by hand")
        return repository

    def count(self, pattern: str) -> int:
        """How many requests there were like this one."""
        return sum(bool(re.search(pattern, line)) for line in self.requests)

    def take_fault(self, line: str) -> Fault | None:
        """What goes wrong with this request, if anything."""
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and re.search(fault.path, line):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


def is_large(name: str, size: int) -> bool:
    """Whether a file goes to the large storage."""
    return name.endswith(".safetensors") or size > LFS_FROM


def flipped(content: bytes) -> bytes:
    """The same with another last bit."""
    return content[:-1] + bytes([content[-1] ^ 1])


class Cut(Exception):  # noqa: N818
    """The connection was closed on purpose."""


class Answer(Exception):  # noqa: N818
    """Ends a request.

    Args:
        status: HTTP's.
        body: Bytes, or what becomes JSON.
        **headers: Further ones; `_` stands for `-`.
    """

    def __init__(self, status: int, body: Any = None, **headers: str):
        super().__init__(status)
        self.status = status
        self.content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def absent(kind: str, said: str) -> Answer:
    """As the Hub says that something is not there."""
    return Answer(404, {"error": said}, X_Error_Code=kind, X_Error_Message=said)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    # else the second write of an answer waits for the client to acknowledge the first, 40 ms with many a system
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Nothing: what the tests want to know is in `requests`."""

    def handle_one(self) -> None:
        """Answers one request, or fails as was asked."""
        path = unquote(urlparse(self.path).path)
        line = f"{self.command} {path}"
        with self.hub.lock:
            self.hub.requests.append(line)
        fault = self.hub.take_fault(line)
        try:
            if fault is not None and fault.delay:
                time.sleep(fault.delay)
            is_answer_cut = fault is not None and fault.cut is not None and self.command == "GET"
            self.body = self._read(None if fault is None or is_answer_cut else fault.cut)
            if fault is not None and fault.corrupt and self.command == "PUT":
                self.body = flipped(self.body)
            if fault is not None and fault.then is not None:
                fault.then()
            answer = (
                self._work(urlparse(self.path).path) if fault is None or fault.status is None or fault.late else None
            )
            if fault is not None and fault.status is not None:
                answer = Answer(fault.status, fault.body, **fault.headers)
            elif fault is not None and fault.corrupt and self.command == "GET":
                answer.content = flipped(answer.content)
            self._send(answer, fault.cut if is_answer_cut else None)
        except (Cut, ConnectionError, TimeoutError):
            self._cut()

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_one  # noqa: N815

    def _read(self, most: int | None) -> bytes:
        size = int(self.headers.get("Content-Length") or 0)
        if most is None:
            return self.rfile.read(size)
        self.rfile.read(min(most, size))
        raise Cut

    def _cut(self) -> None:
        self.close_connection = True
        # at once and without a farewell, as when a machine is switched off
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send(self, answer: Answer, cut: int | None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content if cut is None else answer.content[:cut])
        self.close_connection = self.close_connection or cut is not None

    def _work(self, path: str) -> Answer:
        try:
            with self.hub.lock:
                for pattern, method in ROUTES:
                    if found := re.fullmatch(pattern, path):  # in which a branch's own strokes are quoted
                        method(self, *(group and unquote(group) for group in found.groups()))
            raise Answer(404, {"error": "no such page"})
        except Answer as answer:
            return answer

    # ------------------------------------------------------------------------------------------------------ who asks

    @property
    def token(self) -> str | None:
        """The token that came along."""
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def may_write(self) -> None:
        """Refuses those who may not."""
        if self.token is None:
            raise Answer(401, {"error": "Invalid username or password."})
        if self.token == OTHER_TOKEN:
            said = "You don't have the rights to write here"
            raise Answer(403, {"error": said}, X_Error_Message=said)
        self.is_known()

    def is_known(self) -> None:
        """Refuses tokens that are none, and repeats them, as a server may that is badly written."""
        if self.token not in (None, TOKEN, OTHER_TOKEN):
            said = "Invalid credentials in Authorization header"
            raise Answer(401, {"error": f"{said}: {self.token}"}, X_Error_Message=said)

    def repository(self, repo_id: str) -> Repository:
        """The repository, for those who may see it."""
        self.is_known()
        found = self.hub.repositories.get(repo_id)
        if found is None or (found.private and self.token != TOKEN):
            if self.token is None:
                raise Answer(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
            raise absent("RepoNotFound", "Repository not found")
        return found

    def commit_of(self, repo_id: str, revision: str) -> tuple[Repository, str]:
        """A repository and its commit of that name."""
        repository = self.repository(repo_id)
        oid = repository.find(revision)
        if oid is None:
            raise absent("RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, oid

    # ---------------------------------------------------------------------------------------------------- what is asked

    def create(self) -> None:
        """Makes a repository."""
        self.may_write()
        wanted = json.loads(self.body)
        repo_id = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        url = f"{self.hub.endpoint}/{repo_id}"
        if repo_id in self.hub.repositories:
            said = "You already created this model repo"
            raise Answer(409, {"error": said, "url": url}, X_Error_Message=said)
        is_private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.repositories[repo_id] = repository = Repository(is_private)
        repository.commit("main", {".gitattributes": StoredFile(GIT_ATTRIBUTES)}, "initial commit")
        raise Answer(200, {"url": url, "name": repo_id, "id": repo_id})

    def branch(self, repo_id: str, name: str) -> None:
        """Makes a branch."""
        self.may_write()
        repository = self.repository(repo_id)
        if name in repository.branches:
            raise Answer(409, {"error": f"Reference already exists: {name}"})
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repository.branches[name] = repository.find(start)
        raise Answer(200, {})

    def refs(self, repo_id: str) -> None:
        """Names the branches."""
        branches = self.repository(repo_id).branches.items()
        rows = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in branches]
        raise Answer(200, {"branches": rows, "tags": [], "converts": []})

    def info(self, repo_id: str, revision: str | None = None) -> None:
        """Tells of a repository."""
        repository, oid = self.commit_of(repo_id, revision or "main")
        siblings = [{"rfilename": name} for name in repository.commits[oid]]
        about = {"id": repo_id, "modelId": repo_id, "sha": oid, "private": repository.private, "siblings": siblings}
        raise Answer(200, {**about, "tags": [], "downloads": 0, "likes": 0})

    def tree(self, repo_id: str, revision: str, folder: str | None = None) -> None:
        """Lists the files, page by page; there are no folders."""
        repository, oid = self.commit_of(repo_id, revision)
        if folder is not None:
            raise absent("EntryNotFound", f"{folder} does not exist on {revision}")
        rows = []
        for name, file in sorted(repository.commits[oid].items()):
            row = {"type": "file", "path": name, "size": len(file.content), "oid": git_digest(file.content)}
            if file.is_lfs:
                pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.digest}\n".encode()
                large = {"oid": file.digest, "size": len(file.content), "pointerSize": len(pointer)}
                row |= {"oid": git_digest(pointer), "lfs": large}
            rows.append(row)
        start = int(parse_qs(urlparse(self.path).query).get("cursor", ["0"])[0])
        more = {}
        if start + PAGE < len(rows):
            more["Link"] = f'<{self.hub.endpoint}{urlparse(self.path).path}?cursor={start + PAGE}>; rel="next"'
        raise Answer(200, rows[start : start + PAGE], **more)

    def validate(self) -> None:
        """Looks at a model card, not at all as closely as the Hub."""
        content = json.loads(self.body)["content"]
        if "license: nonsense" in content:
            raise Answer(400, {"errors": [{"message": '"license" must be one of [apache-2.0, ...]'}], "warnings": []})
        raise Answer(200, {"errors": [], "warnings": []})

    def preupload(self, repo_id: str, revision: str) -> None:
        """Says which files go to the large storage, and which are there already."""
        self.may_write()
        repository, oid = self.commit_of(repo_id, revision)
        answers = []
        for file in json.loads(self.body)["files"]:
            mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
            there = repository.commits[oid].get(file["path"])
            answer = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            answers.append(answer if there is None else {**answer, "oid": there.digest})
        raise Answer(200, {"files": answers})

    def batch(self, repo_id: str) -> None:
        """Says where to put large files that are not stored yet."""
        self.may_write()
        self.repository(repo_id)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.endpoint}/large/{wanted['oid']}", "header": {}}
            verify = {"href": f"{self.hub.endpoint}/verify/{wanted['oid']}", "header": {}}
            stored = {} if wanted["oid"] in self.hub.large else {"actions": {"upload": upload, "verify": verify}}
            objects.append({"oid": wanted["oid"], "size": wanted["size"], **stored})
        raise Answer(200, {"transfer": "basic", "objects": objects})

    def store(self, digest: str) -> None:
        """Takes a large file, under its own digest only."""
        if sha256(self.body) != digest:
            raise Answer(400, {"error": "The bytes are not those of this digest"})
        self.hub.large[digest] = self.body
        raise Answer(200)

    def verify(self, digest: str) -> None:
        """Whether a large file is there as it was announced."""
        is_there = len(self.hub.large.get(digest, b"")) == json.loads(self.body)["size"]
        raise Answer(200) if is_there else Answer(404, {"error": "not stored"})

    def commit(self, repo_id: str, branch: str) -> None:
        """Makes a commit, whole or not at all."""
        self.may_write()
        repository = self.repository(repo_id)
        if branch not in repository.branches:
            raise absent("RevisionNotFound", f"Invalid rev id: {branch}")
        head = repository.branches[branch]
        files, message = dict(repository.commits[head]), ""
        for line in self.body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, head):
                    raise Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            elif key == "file":
                files[value["path"]] = StoredFile(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in self.hub.large:
                    raise Answer(400, {"error": f"The large file {value['oid'][:12]} was not uploaded"})
                files[value["path"]] = StoredFile(self.hub.large[value["oid"]], True)
            elif key == "deletedFile" and files.pop(value["path"], None) is None:
                raise absent("EntryNotFound", "A file with this name doesn't exist")
        oid = repository.commit(branch, files, message)
        url = f"{self.hub.endpoint}/{repo_id}/commit/{oid}"
        raise Answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def resolve(self, repo_id: str, revision: str, name: str) -> None:
        """Gives a file."""
        repository, oid = self.commit_of(repo_id, revision)
        file = repository.commits[oid].get(name)
        if file is None:
            said = "Entry not found"
            raise Answer(404, {"error": said}, X_Error_Code="EntryNotFound", X_Error_Message=said, X_Repo_Commit=oid)
        content, partly = file.content, {}
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(wanted[1])
            partly["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        headers = {"ETag": f'"{file.digest}"', "X_Repo_Commit": oid, "Accept_Ranges": "bytes", **partly}
        raise Answer(206 if partly else 200, content, **headers)


REPO = r"([^/]+/[^/]+)"
ROUTES = (
    (r"/api/repos/create", Handler.create),
    (r"/api/validate-yaml", Handler.validate),
    (rf"/api/models/{REPO}/branch/([^/]+)", Handler.branch),
    (rf"/api/models/{REPO}/refs", Handler.refs),
    (rf"/api/models/{REPO}/preupload/([^/]+)", Handler.preupload),
    (rf"/api/models/{REPO}/commit/([^/]+)", Handler.commit),
    (rf"/api/models/{REPO}/tree/([^/]+)(?:/(.+))?", Handler.tree),
    (rf"/api/models/{REPO}/revision/([^/]+)", Handler.info),
    (rf"/api/models/{REPO}", Handler.info),
    (rf"/{REPO}\.git/info/lfs/objects/batch", Handler.batch),
    (r"/large/(\w{64})", Handler.store),
    (r"/verify/(\w{64})", Handler.verify),
    (rf"/{REPO}/resolve/([^/]+)/(.+)", Handler.resolve),
)
