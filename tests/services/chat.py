"""A page on another site than the media's, as a chat has it: what embeds media in real life."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Chat:
    """Serves pages under http://localhost, which is another site than http://127.0.0.1 to a browser. `heard` holds the paths asked for
    besides the pages: what a script that should not run would have called."""

    def __init__(self) -> None:
        self._pages: dict[str, bytes] = {}
        self.heard: list[str] = []
        chat = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = chat._pages.get(self.path)
                if page is None and self.path != "/favicon.ico":
                    chat.heard.append(self.path)
                self.send_response(200 if page is not None else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self.origin = f"http://localhost:{self.server.server_address[1]}"

    def page(self, body: str) -> str:
        """The URL of a new page with this body, titled "chat"."""
        path = f"/{len(self._pages)}.html"
        self._pages[path] = f"<!DOCTYPE html><html><head><title>chat</title></head><body>{body}</body></html>".encode()
        return self.origin + path


@contextmanager
def chat() -> Iterator[Chat]:
    """Serve a chat until the context is left."""
    running = Chat()
    thread = threading.Thread(target=running.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield running
    finally:
        running.server.shutdown()
        thread.join()
        running.server.server_close()
