"""A release is whole, and names its version wherever an image is named."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from clipmill.jobs.clusters.rendering import render
from clipmill.jobs.specifications.templates import Values
from clipmill.pipeline.errors import UserError
from needs import GIT
from release import ROOT, release

JOB = "apiVersion: clipmill/v1\nkind: embed\nspec: {inputs: [s3://b/*.tar], out: s3://b/e, model: tiny}\n"


def test_the_wheel_and_the_sdist_are_whole_and_run(tmp_path: Path) -> None:
    GIT.require()
    assert [path.suffix for path in release(tmp_path / "dist")] == [".whl", ".gz"]


def test_every_image_that_is_named_is_of_this_version() -> None:
    named = {}
    for path in [*(ROOT / "infra").rglob("*"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]:
        if path.is_file():
            for tag in re.findall(r"\bclipmill:([\w.-]+)", path.read_text(encoding="utf-8")):
                named.setdefault(tag, path.name)
    version = metadata.version("clipmill")
    assert {tag.removesuffix("-cpu").removesuffix("-cuda") for tag in named} == {version}, named


def test_render_names_the_image_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    values = Values.given((), None)
    assert f"image: clipmill:{metadata.version('clipmill')}-cuda\n" in render(path, values)
    ours = "registry.example.org:5000/team/clipmill:7"
    images = re.findall(r"image: (\S+)", render(path, values, image=ours))
    assert len(images) >= 3 and set(images) == {ours}
    digest = f"clipmill@sha256:{'0' * 64}"
    assert f"image: {digest}" in render(path, values, image=digest)


@pytest.mark.parametrize(
    "image", ["clipmill", "clipmill:latest", "registry.example.org:5000/clipmill", "clipmill:", ":1"]
)
def test_an_image_without_a_tag_is_refused(image: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    with pytest.raises(UserError, match=rf"--image {image}: name a tag, such as clipmill:1\.0\.0-cuda, or a digest"):
        render(path, Values.given((), None), image=image)
