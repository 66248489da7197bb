"""The page over HTTP: its files, its questions, its pictures. Read-only."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi import Path as InPath
from fastapi import Query as InQuery
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect

from ...pipeline.choices import Side
from ...pipeline.errors import ClipmillError, SampleError, UserError
from ...pipeline.searching.catalogue import Condition
from ...pipeline.searching.filters import BusyError
from .current import Current
from .downloads import Form
from .guard import Guard
from .site import Site
from .uploads import Uploads
from .view import DEEPEST, Order, Query, Score, View

STATIC = Path(__file__).parent / "static"
_BUSY = {"Retry-After": "5"}
_FILES: dict[Form, tuple[str, str]] = {
    "keys": ("keys.txt", "text/plain; charset=utf-8"),
    "uids": ("uids.txt", "text/plain; charset=utf-8"),
    "parquet": ("rows.parquet", "application/vnd.apache.parquet"),
}

router = APIRouter(prefix="/api")


def _site(request: Request) -> Site:
    current: Current = request.app.state.current
    current.check()
    site: Site = request.app.state.site
    return site


TheSite = Annotated[Site, Depends(_site)]


async def _condition(
    site: TheSite,
    where: Annotated[str | None, InQuery(max_length=4000)] = None,
    label: Annotated[str | None, InQuery(max_length=4000)] = None,
) -> Condition:
    """A filter is waited for here and not in one of the threads that answer requests: those are few."""
    condition = Condition(where.strip() if where and where.strip() else None, label)
    if condition.where is not None:
        await asyncio.shield(asyncio.wrap_future(site.rows.filters.submit(condition.where)))
    return condition


def _query(
    text: Annotated[str | None, InQuery(max_length=4000)] = None,
    key: Annotated[str | None, InQuery(max_length=4000)] = None,
    place: Annotated[int | None, InQuery(ge=0, lt=1 << 62)] = None,
    upload: Annotated[str | None, InQuery(max_length=100)] = None,
) -> Query:
    return Query(text.strip() if text and text.strip() else None, key, place, upload)


def _view(
    condition: Annotated[Condition, Depends(_condition)],
    query: Annotated[Query, Depends(_query)],
    side: Side = "image",
    score: Score = "similarity",
    at_least: Annotated[float | None, InQuery(allow_inf_nan=False)] = None,
    order: Order = "best",
) -> View:
    return View(query, side, condition, score, at_least, order)


TheView = Annotated[View, Depends(_view)]
Place = Annotated[int, InPath(ge=0, lt=1 << 62)]


@router.get("/about")
def about(site: TheSite) -> dict[str, Any]:
    return site.about()


@router.get("/search")
def search(
    site: TheSite,
    view: TheView,
    start: Annotated[int, InQuery(ge=0, lt=DEEPEST)] = 0,
    count: Annotated[int, InQuery(ge=1, le=200)] = 48,
) -> dict[str, Any]:
    return site.search(view, start, count)


@router.get("/histogram")
def histogram(site: TheSite, view: TheView) -> dict[str, Any]:
    return site.histogram(view)


@router.get("/threshold")
def threshold(site: TheSite, view: TheView, at: float) -> dict[str, Any]:
    return site.threshold(view, at)


@router.get("/map")
def points(site: TheSite, view: TheView) -> dict[str, Any]:
    return site.map(view)


@router.get("/row/{place}")
def row(site: TheSite, place: Place) -> dict[str, Any]:
    return site.hit(place)


@router.get("/download/{form}")
def download(
    site: TheSite,
    view: TheView,
    form: Form,
    places: Annotated[str, InQuery(max_length=30_000, pattern=r"^(\d{1,18}(,\d{1,18})*)?$")] = "",
) -> Response:
    """places: of the rows, with commas between them; none: all that the view shows."""
    content = site.download(view, form, [int(place) for place in places.split(",") if place])
    name, kind = _FILES[form]
    return StreamingResponse(
        content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


@router.post("/upload")
async def upload(site: TheSite, request: Request) -> dict[str, Any]:
    """The image is the body itself. No form: a page elsewhere could send one without asking."""
    uploads: Uploads = request.app.state.uploads
    image = await uploads.read(request)
    return {"upload": await run_in_threadpool(site.upload, image)}


@router.get("/image/{place}")
def image(site: TheSite, place: Place, side: Literal["320", "1280"] = "320") -> Response:
    """Drawn anew as a JPEG, whatever the shard holds."""
    try:
        picture = site.pictures.jpeg(site.row(place), int(side))
    except SampleError as error:
        return JSONResponse({"error": error.reason}, 404)
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def app_of(site: Site) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site, app.state.uploads, app.state.current = site, Uploads(), Current(site.dataset)
    app.include_router(router)
    app.add_api_route("/", lambda: FileResponse(STATIC / "index.html"))
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_middleware(BaseHTTPMiddleware, dispatch=Guard(site.job.host))
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(ClipmillError, _refused)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(Exception, _unforeseen)
    return app


def _busy(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 503, _BUSY)


def _gone(_: Request, __: Exception) -> Response:
    """Nobody reads this."""
    return Response(status_code=400)


def _refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 400 if isinstance(error, UserError) else 502)


def _malformed(_: Request, error: Exception) -> JSONResponse:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": ("request",), "msg": "wrong"}
    return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}"}, 422)


def _unforeseen(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"unexpected {type(error).__name__}"}, 500)
