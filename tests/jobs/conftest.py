"""What tests of ingest share, a server to download from; and those of the web page, drawn pairs embedded with the
shipped model, labelled, and opened as a site."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clipmill.jobs.web.app import app_of
from clipmill.jobs.web.site import Site
from clipmill.pipeline import EmbedJob, LabelJob, ServeJob, embed, label
from fakes import Drawn, jpeg, write_tar
from fastapi.testclient import TestClient
from web import Web


@pytest.fixture(scope="session")
def hostile() -> str:
    """Markup and quotes of all kinds."""
    return (
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>'\"; DROP TABLE pairs; --"
    )


@pytest.fixture(scope="session")
def scenes(cluster: None, drawn: Drawn, hostile: str, tmp_path_factory: pytest.TempPathFactory) -> ServeJob:
    """The shared data set, and a shard of one pair whose key, caption and address are hostile."""
    folder = tmp_path_factory.mktemp("scenes")
    members = {"jpg": jpeg(1, 200, 150), "txt": hostile.encode(), "json": b'{"url": "javascript:alert(1)"}'}
    write_tar(folder / "evil <i>.tar", ((f"evil'\"&<b>.{name}", content) for name, content in members.items()))
    embed(EmbedJob([str(drawn.folder), str(folder / "evil <i>.tar")], str(folder / "out"), "tiny", ("label",)))
    (folder / "classes.txt").write_text("red star\nblue fish\ngrey crescent\n<b>bold</b>")
    label(LabelJob(str(folder / "out"), str(folder / "labels"), str(folder / "classes.txt"), "simple"))
    return ServeJob(str(folder / "out"), str(folder / "labels"), port=0)


@pytest.fixture(scope="session")
def site(scenes: ServeJob) -> Iterator[Site]:
    with Site.open(scenes) as opened:
        yield opened


@pytest.fixture
def client(site: Site) -> TestClient:
    return TestClient(app_of(site), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def web() -> Iterator[Web]:
    """To download images from."""
    web = Web()
    yield web
    web.server.shutdown()
    web.server.server_close()
