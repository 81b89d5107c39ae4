"""A small hub on this machine: files of repositories under the addresses that the hub's own library asks for."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Its address, and the paths it was asked for, in order."""

    def __init__(self, address: str):
        self.address = address
        self.asked: list[str] = []


@contextlib.contextmanager
def hub(repositories: Mapping[str, Mapping[str, bytes]], *, gated: tuple[str, ...] = ()) -> Iterator[Hub]:
    """Serves each repository's files at its revision main; a gated one is refused to all."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            state.asked.append(self.path)
            organisation, name, verb, revision, file = (self.path.strip("/").split("?")[0].split("/", 4) + [""] * 5)[:5]
            repository = f"{organisation}/{name}"
            if repository in gated:
                return self._refuse(403, "GatedRepo")
            if repository not in repositories:
                return self._refuse(401, "RepoNotFound")
            if verb != "resolve" or revision not in ("main", COMMIT):
                return self._refuse(404, "RevisionNotFound")
            if file not in repositories[repository]:
                return self._refuse(404, "EntryNotFound")
            body = repositories[repository][file]
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)
            return None

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
