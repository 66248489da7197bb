"""Rows that lack an image or a caption, and rows whose files were not together: what to say, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...pipeline.dataset.totals import Totals

_REMEDIES = {
    "image": "name them by --image-key, or leave images out with --no-images",
    "caption": "name them by --caption-key, or leave captions out with --no-texts",
}
_NOTES = {
    "key came back": (
        "have a key that came before in their shard, so one sample may be several rows; put each sample's files "
        "together: mkdir sorted && tar -xf SHARD.tar -C sorted && tar --sort=name -cf SORTED.tar -C sorted ."
    ),
    "another image": "have several images, of which the first was taken; --image-key names the right one",
    "another caption": "have several captions, of which the first was taken; --caption-key names the right one",
}


def warnings(totals: Totals) -> Iterator[str]:
    """A line for each thing that a user should know of the embedded rows."""
    for side, remedy in _REMEDIES.items():
        causes = Counter({c.split(": ", 1)[1]: n for c, n in totals.half_pairs.items() if c.startswith(f"{side}: ")})
        if rows := causes.total():
            why = ", ".join(f"{count:,} {cause}" for cause, count in causes.most_common())
            yield f"{rows:,} of {totals.embedded:,} embedded rows have no {side} ({why}): if they have one, {remedy}"
    for note, rows in totals.notes.items():
        if rows and note in _NOTES:
            yield f"{rows:,} embedded rows {_NOTES[note]}"
