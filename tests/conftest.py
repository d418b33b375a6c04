"""What many tests share: small scenarios, and a cache that lies in a temporary folder."""

from __future__ import annotations

import os
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

import pytest

from fedsim.scenario import Scenario, from_data

collect_ignore = ["plugin_package"]
"""It is installed into an environment of its own first, by test_plugin_package.py."""
TINY: dict[str, Any] = {
    "version": 1,
    "name": "tiny",
    "seed": 3,
    "rounds": 3,
    "data": {
        "source": {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120},
        "task": "binary",
    },
    "population": {"num_sites": 3, "partition": {"kind": "dirichlet", "alpha": 1.0}},
    "model": {"kind": "mlp", "widths": [8]},
    "client": {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 0.1}},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests, so that no worker is left alone with one at the end."""
    slow, every = Counter[Path](), Counter[Path]()
    for item in items:
        every[item.path] += 1
        slow[item.path] += item.get_closest_marker("slow") is not None
    items.sort(key=lambda item: -slow[item.path] / every[item.path])


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep generated images out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["FEDSIM_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Scenario]:
    """Return a function that makes a scenario of three small sites, with sections replaced.

    It asks for no bootstrap intervals unless told to: they take longer than the training.
    """

    def make(**sections: Any) -> Scenario:
        evaluation = {"num_resamples": 0, **sections.pop("evaluation", {})}
        return from_data({**TINY, **sections, "evaluation": evaluation}, "tiny")

    return make


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[Scenario, int], Path]:
    """Return a function that runs a scenario until a round is done, as if its process died then."""
    from fedsim.simulate import run

    class Died(Exception):
        pass

    def make(scenario: Scenario, after: int) -> Path:
        def die(progress: Any) -> None:
            if progress.round == after:
                raise Died

        with pytest.raises(Died):
            run(scenario, out=tmp_path, name="broken", device="cpu", watch=die)
        return tmp_path / "broken"

    return make


def _absent(reason: str) -> NoReturn:
    """Skip, or fail where real data are known to be there (as in `.ci/run`)."""
    if os.environ.get("FEDSIM_DATA_REQUIRED"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real images, or skip."""
    folder = Path(os.environ.get("FEDSIM_DATA_DIR") or "unset")
    if not (folder / "pneumoniamnist.npz").is_file() or not (folder / "retinamnist.npz").is_file():
        _absent("needs FEDSIM_DATA_DIR, a folder with pneumoniamnist.npz and retinamnist.npz")
    return folder


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Return the folder of values from other implementations, beside the real images, or skip."""
    folder = Path(os.environ.get("FEDSIM_DATA_DIR") or "unset").parent / "oracles"
    if not folder.is_dir():
        _absent("needs FEDSIM_DATA_DIR with a folder `oracles` beside it")
    return folder


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a certificate for this computer and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fedsim test")])
    names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.fixture
def serve(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Return a function that serves over TLS, trusted within the test, and says where.

    It takes a handler of `http.server`, and `trusted=False` for a certificate that nobody knows.
    """
    with ExitStack() as stack:

        def start(handler: Any, *, trusted: bool = True) -> str:
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            if trusted:
                monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
            return f"https://127.0.0.1:{server.server_port}"

        yield start
