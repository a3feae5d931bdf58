"""/images: what is here, what comes and goes."""

from __future__ import annotations

import contextlib

from lamina.api.backend import Backend, Document
from lamina.api.message import Direct, InvalidParameter, Reply, Request, Response, Writer, decode, json_reply
from lamina.api.render import (
    descriptor_document,
    history_item,
    image_inspect,
    image_summary,
    manifest_summary,
    named,
    platform_document,
    sized,
)
from lamina.api.router import Route
from lamina.api.streams import progress
from lamina.apitypes.requests import OciPlatform
from lamina.distribution.auth import Auth, InvalidAuth
from lamina.errors import Cancelled
from lamina.image.model import Image
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, Update
from lamina.spec.reference import Reference


def auth_of(request: Request) -> Auth:
    """The credentials a request carries; none where they cannot be read, as with dockerd: the registry says whether it wants any."""
    try:
        return Auth.parse(request.headers.get("x-registry-auth", ""))
    except InvalidAuth:
        return Auth()


def platform_of(request: Request) -> Platform | None:
    """The platform asked for; None where the query names none."""
    text = request.query.text("platform")
    return read_platform(text) if text else None


def read_platform(text: str) -> Platform:
    """A platform as newer clients send it, as JSON, or as older ones: `linux/arm64`."""
    if not text.startswith("{"):
        return Platform.parse(text)
    try:
        asked = decode(text.encode(), OciPlatform)
    except InvalidParameter:
        raise InvalidParameter(f"invalid platform: {text[:100]}") from None
    return Platform.parse("/".join(part for part in (asked.os, asked.architecture, asked.variant) if part))


def list_all(engine: Backend, request: Request) -> Response:
    """GET /images/json."""
    query = request.query
    filters = query.filters()
    if query.text("filter"):
        filters.setdefault("reference", []).append(query.text("filter"))
    found = engine.images.list(all=query.flag("all"), filters=filters)
    shared = {usage.image.id: usage.shared for usage in engine.images.usage()[1]} if query.flag("shared-size") else {}
    whole = query.flag("manifests")
    documents = (_summary(engine, image, whole=whole, shared=shared.get(image.id, -1)) for image in found)
    return json_reply([named(sized(document, request.api_version), request.api_version) for document in documents])


def _summary(engine: Backend, image: Image, *, whole: bool, shared: int) -> Document:
    if not whole:
        return image_summary(image, resolved=engine.images.resolved(image), shared=shared)
    users = engine.containers.users_of
    variants = engine.images.variants(image)
    used = sum(len(users(variant.image.id)) for variant in variants if variant.image is not None)
    document = image_summary(image, resolved=engine.images.resolved(image), containers=used, shared=shared)
    return {**document, "Manifests": [manifest_summary(variant, users) for variant in variants]}


def inspect(engine: Backend, request: Request) -> Response:
    """GET /images/{name}/json."""
    whole, platform = request.query.flag("manifests"), platform_of(request)
    if whole and platform:
        raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
    image = engine.images.resolve(request.parameters["name"], platform)
    document = image_inspect(image, str(engine.system.details().get("driver", "")), engine.images.resolved(image))
    if whole:
        document["Manifests"] = [manifest_summary(variant, engine.containers.users_of) for variant in engine.images.variants(image)]
    return json_reply(sized(document, request.api_version))


def history(engine: Backend, request: Request) -> Response:
    """GET /images/{name}/history."""
    return json_reply([history_item(entry) for entry in engine.images.history(request.parameters["name"], platform_of(request))])


def tag(engine: Backend, request: Request) -> Response:
    """POST /images/{name}/tag."""
    engine.images.tag(request.parameters["name"], target_of(request))
    return Reply(201)


def target_of(request: Request) -> Reference:
    """`repo` and `tag` of a query as the name to give."""
    reference = Reference.of(request.query.text("repo"), request.query.text("tag"))
    if reference.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    return reference.with_default_tag()


def remove(engine: Backend, request: Request) -> Response:
    """DELETE /images/{name}."""
    query = request.query
    if not request.parameters["name"].strip():
        raise InvalidParameter("image name cannot be blank")
    platforms = [read_platform(text) for text in query.all("platforms")]
    return json_reply(
        engine.system.remove_image(
            request.parameters["name"], force=query.flag("force"), prune=not query.flag("noprune"), platforms=platforms
        )
    )


def prune(engine: Backend, request: Request) -> Response:
    """POST /images/prune."""
    return json_reply(engine.system.prune_images(request.query.filters()))


def create(engine: Backend, request: Request) -> Response:
    """POST /images/create: pull (fromImage) or import (fromSrc)."""
    if request.query.text("fromImage"):
        return _pull(engine, request)
    if request.query.text("fromSrc"):
        return _import(engine, request)
    raise InvalidParameter("missing parameter: fromImage or fromSrc")


def pull_reference(name: str, tag_text: str) -> Reference:
    """What to pull: `tag_text` is a tag, a digest or empty. A digest in the name counts for more than a tag; old clients end a name without
    one by a colon."""
    reference = Reference.parse(name.removesuffix(":"))
    if reference.digest and ":" not in tag_text:
        return reference
    if ":" in tag_text:
        return Reference(reference.domain, reference.path, "", Digest.parse(tag_text))
    return Reference.parse(f"{reference.name}:{tag_text}") if tag_text else reference


def _pull(engine: Backend, request: Request) -> Response:
    reference = pull_reference(request.query.text("fromImage"), request.query.text("tag"))
    auth, platform = auth_of(request), platform_of(request)
    every, verify = not (reference.tag or reference.digest), request.query.flag("verify")

    def work(sink: Sink, writer: Writer) -> None:  # noqa: ARG001
        engine.registry.pull(reference, platform=platform, all_tags=every, auth=auth, sink=sink, verify=verify)

    return progress(work)


def _import(engine: Backend, request: Request) -> Response:
    query = request.query
    address = query.text("fromSrc")
    message = query.text("message") or f"Imported from {address}"
    name = target_of(request) if query.text("repo") else None

    def work(sink: Sink, writer: Writer) -> None:  # noqa: ARG001
        changes, platform = query.all("changes"), platform_of(request)
        with contextlib.nullcontext(request.body) if address == "-" else engine.builder.fetched(address, sink) as source:
            image = engine.images.import_(source, name=name, changes=changes, message=message, platform=platform, sink=sink)
        sink(Update(status=str(image.id)))

    return progress(work)


def load(engine: Backend, request: Request) -> Response:
    """POST /images/load. What is wrong with an archive is said in the stream, as dockerd does: docker-py raises ImageLoadError for that.

    Where nothing is to be told meanwhile the answer comes after the archive's end: skopeo stops sending with its first byte. A client
    that has sent all of it and goes (docker-squash does not read the answer) has loaded it; one that goes before cuts the body.
    """
    quiet, platform = request.query.flag("quiet"), platform_of(request)

    def work(sink: Sink, writer: Writer) -> None:
        def heard(update: Update) -> None:
            if not quiet or update.stream:
                with contextlib.suppress(OSError, Cancelled):
                    sink(update)

        try:
            engine.images.load(request.body, heard, platform=platform)
        except Exception:
            writer.start()
            raise

    return progress(work)


def save_one(engine: Backend, request: Request) -> Response:
    """GET /images/{name}/get."""
    return _save(engine, (request.parameters["name"],), request)


def save_many(engine: Backend, request: Request) -> Response:
    """GET /images/get."""
    return _save(engine, request.query.all("names"), request)


def _save(engine: Backend, names: tuple[str, ...], request: Request) -> Response:
    return save_as(engine, names, "docker", platform_of(request))


def save_as(engine: Backend, names: tuple[str, ...], form: str, platform: Platform | None) -> Response:
    """An archive of images in a layout of `image.archive.save`, as the reply's body."""
    if not names:
        raise InvalidParameter("no image is named")
    plan = engine.images.saving(names, form=form, platform=platform)

    def write(target: int) -> None:
        plan.write(target)
        engine.images.saved(names)

    return Direct(plan.size, write, "application/x-tar")


def push(engine: Backend, request: Request) -> Response:
    """POST /images/{name}/push; without a tag, all tags of the repository; with a platform, that one of several."""
    reference = Reference.parse(request.parameters["name"])
    if request.query.text("tag"):
        reference = Reference.of(reference.name, request.query.text("tag"))
    if reference.digest:
        raise InvalidParameter("cannot push a digest reference")
    auth, platform = auth_of(request), platform_of(request)

    def work(sink: Sink, writer: Writer) -> None:  # noqa: ARG001
        engine.registry.push(reference, platform=platform, all_tags=not reference.tag, auth=auth, sink=sink)

    return progress(work)


def search(engine: Backend, request: Request) -> Response:
    """GET /images/search."""
    query = request.query
    found = engine.registry.search(
        query.text("term"), limit=query.number("limit", 25) or 25, filters=query.filters(), auth=auth_of(request)
    )
    return json_reply(
        [
            {
                "name": hit.name,
                "description": hit.description,
                "star_count": hit.star_count,
                "is_official": hit.is_official,
                "is_automated": hit.is_automated,
            }
            for hit in found
        ]
    )


def distribution(engine: Backend, request: Request) -> Response:
    """GET /distribution/{name}/json."""
    descriptor, platforms = engine.registry.distribution(request.parameters["name"], auth=auth_of(request))
    return json_reply({"Descriptor": descriptor_document(descriptor), "Platforms": [platform_document(platform) for platform in platforms]})


ROUTES: tuple[Route[Backend], ...] = (
    Route("GET", "/images/json", list_all),
    Route("POST", "/images/create", create),
    Route("POST", "/images/load", load),
    Route("GET", "/images/get", save_many),
    Route("GET", "/images/search", search),
    Route("POST", "/images/prune", prune),
    Route("GET", "/images/{name:path}/json", inspect),
    Route("GET", "/images/{name:path}/history", history),
    Route("GET", "/images/{name:path}/get", save_one),
    Route("POST", "/images/{name:path}/tag", tag),
    Route("POST", "/images/{name:path}/push", push),
    Route("DELETE", "/images/{name:path}", remove),
    Route("GET", "/distribution/{name:path}/json", distribution),
)
