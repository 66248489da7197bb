"""Whatever the files of a folder are called: every image and every lone caption is a row."""

from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Shard
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

PHOTOS = Shard("memory://photos/")

NAMES = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cc"]), max_size=6),
        st.sampled_from(["jpg", "PNG", "txt", "json", "npy", ""]),
    ).map(".".join),
    unique=True,
    max_size=20,
)


def shared(text: str, names: list[str], images: list[str]) -> bool:
    """Whether a caption is that of an image of its key, though their names differ behind the first dot."""
    key, _, extension = text.partition(".")
    of_key = [name for name in images if name.partition(".")[0] == key]
    if extension != "txt" and len(of_key) != 1:
        return False
    texts = [n for n in names if n.partition(".")[0] == key and n.endswith(".txt")]
    own = [image for image in of_key if image[:-4] + ".txt" not in texts]
    strangers = [n for n in texts if n[:-4] not in {image[:-4] for image in of_key}]
    first = [n for n in strangers if n.partition(".")[2] == "txt" or len(of_key) == 1]
    return bool(own) and min(first) == text


@settings(deadline=None)
@given(NAMES)
def test_every_image_and_every_lone_text_is_one_row_whatever_the_names(names: list[str]) -> None:
    store = MemoryFileSystem()
    store.store.clear()
    names = [name for name in names if name not in (".", "..") and name.strip()]
    store.pipe({f"/photos/{name}": b"{}" if name.endswith("json") else name.encode() for name in names})
    images = [n for n in names if n.lower().endswith((".jpg", ".png")) and not n.startswith(".")]
    stems = {name[:-4] for name in images}
    lone = [n for n in names if n.endswith(".txt") and not n.startswith(".") and n[:-4] not in stems]
    lone = [n for n in lone if not shared(n, names, images)]
    try:
        samples = list(read_samples(PHOTOS))
    except ShardError:
        assert not images
        return
    assert sorted(s.image.decode() for s in samples if s.image is not None) == sorted(images)
    assert sorted(s.key + ".txt" for s in samples if s.image is None) == sorted(lone)
    assert [s.key for s in samples] == sorted(s.key for s in samples)
    assert [s.row for s in samples] == list(range(len(samples)))
