"""Images on their way in: so many at a time, so large, and no longer than so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import Request

from ...pipeline.errors import UserError
from ...pipeline.searching.filters import BusyError

LARGEST = 20 << 20  # bytes of an upload
PATIENCE = 60.0  # seconds until it must be here
AT_ONCE = 8  # each may take LARGEST of memory


@dataclass
class Uploads:
    """Used from the server's event loop alone."""

    coming: int = 0

    async def read(self, request: Request) -> bytes:
        """The body. UserError for one that is too large or too slow, BusyError where others are on their way."""
        if self.coming >= AT_ONCE:
            raise BusyError("the server is busy with other images: try again in a few seconds")
        self.coming += 1
        try:
            return await asyncio.wait_for(_body(request), PATIENCE)
        except asyncio.TimeoutError as error:
            raise UserError(f"this file did not arrive within {PATIENCE:g} s") from error
        finally:
            self.coming -= 1


async def _body(request: Request) -> bytes:
    image = bytearray()
    async for piece in request.stream():
        image += piece
        if len(image) > LARGEST:
            raise UserError(f"this file is larger than {LARGEST >> 20} MiB")
    return bytes(image)
