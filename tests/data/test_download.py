"""A download is the file that was meant, from the host that was named, or nothing at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fedsim.data.download import download

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
Serve = Callable[..., str]


class Server(BaseHTTPRequestHandler):
    """Answers by what the path asks for."""

    elsewhere: ClassVar[str] = ""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        match self.path.partition("?")[0]:
            case "/whole" | "/moved-here":
                self.answer(CONTENT)
            case "/cut":
                self.answer(CONTENT[:-1000], told=len(CONTENT))
            case "/changed":
                self.answer(b"x" + CONTENT[1:])
            case "/endless":
                self.answer(CONTENT * 1000, told=None)
            case "/boasting":
                self.answer(CONTENT, told=10**15)
            case "/moved":
                self.send(302, Location="/moved-here")
            case "/circle":
                self.send(302, Location="/circle")
            case "/elsewhere":
                self.send(302, Location=self.elsewhere)
            case _:
                self.send(404)

    def answer(self, content: bytes, told: int | None = -1) -> None:
        size = len(content) if told == -1 else told
        self.send(200, **({} if size is None else {"Content-Length": str(size)}))
        self.wfile.write(content)

    def send(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "asked", [])
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*"))


@pytest.mark.parametrize("path", ["whole", "whole?download=1", "moved"])
def test_what_is_whole_is_kept(serve: Serve, tmp_path: Path, path: str) -> None:
    target = tmp_path / "cache" / "set.npz"
    assert download(f"{serve(Server)}/{path}", MD5, target, len(CONTENT)) == target
    assert target.read_bytes() == CONTENT
    assert files(tmp_path) == ["cache", "set.npz"]


@pytest.mark.parametrize(
    ("path", "max_bytes", "message"),
    [
        ("cut", len(CONTENT), "IncompleteRead"),
        ("changed", len(CONTENT), "hash"),
        ("whole", len(CONTENT) - 1, "gives more than the 255,999 bytes"),
        ("endless", len(CONTENT), "gives more than the 256,000 bytes"),
        ("boasting", len(CONTENT), "gives more than"),
        ("circle", len(CONTENT), "redirects"),
        ("absent", len(CONTENT), "404"),
    ],
)
def test_of_anything_else_nothing_is_left(
    serve: Serve, tmp_path: Path, path: str, max_bytes: int, message: str
) -> None:
    with pytest.raises((OSError, ValueError), match=message):
        download(f"{serve(Server)}/{path}", MD5, tmp_path / "set.npz", max_bytes)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://localhost:{port}/whole",
        "http://127.0.0.1:{port}/whole",
        "file:///etc/hostname",
        "ftp://127.0.0.1/whole",
        "//localhost:{port}/whole",
    ],
)
def test_who_sends_us_elsewhere_is_not_followed(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    there = serve(Server)
    monkeypatch.setattr(Server, "elsewhere", elsewhere.format(port=there.rpartition(":")[2]))
    with pytest.raises(ValueError, match=r"sends us on to .* which is not followed"):
        download(f"{there}/elsewhere", MD5, tmp_path / "set.npz", len(CONTENT))
    assert Server.asked == ["/elsewhere"]
    assert files(tmp_path) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "file:///etc/hostname", "ftp://a/x", "x"])
def test_only_tls_is_spoken(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="begins with https"):
        download(url, MD5, tmp_path / "set.npz", len(CONTENT))
    assert files(tmp_path) == []


def test_a_host_that_nobody_vouches_for_gives_nothing(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with pytest.raises(OSError, match=r"(?i)certificate"):
        download(f"{serve(Server, trusted=False)}/whole", MD5, tmp_path / "x", len(CONTENT))
    assert Server.asked == []
    assert files(tmp_path) == []


def test_what_was_there_stays_until_the_new_file_is_whole(serve: Serve, tmp_path: Path) -> None:
    target = tmp_path / "set.npz"
    target.write_bytes(b"of another version")
    with pytest.raises((OSError, ValueError)):
        download(f"{serve(Server)}/cut", MD5, target, len(CONTENT))
    assert target.read_bytes() == b"of another version"
    assert files(tmp_path) == ["set.npz"]


def test_a_full_disk_leaves_nothing(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, opened = serve(Server), Path.open

    def full(path: Path, *more: Any, **options: Any) -> Any:
        if path.parent == tmp_path:
            raise OSError(28, os.strerror(28))
        return opened(path, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space left"):
            download(f"{there}/whole", MD5, tmp_path / "set.npz", len(CONTENT))
    assert files(tmp_path) == []
