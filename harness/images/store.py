"""Images of an engine: looked up, pulled, built; by one process at a time."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.images.context import Context, packed
from harness.images.image import BASE, TOXIPROXY, Found, Image, ImageError
from harness.images.progress import Layers, Progress, Steps, silent
from harness.lock import base_directory, private, try_lock

if TYPE_CHECKING:
    from docker import DockerClient

TURN_WITHIN = 1800.0  # seconds to wait for a neighbour that pulls or builds
SAID_AFTER = 2.0  # seconds of waiting until it is said
LABEL = "nemesis.image"  # on what was built here: the image's name


def ensure(client: DockerClient, image: Image | str, *, progress: Progress = silent) -> Found:
    """The image `image`, had in the first way that works: the engine has it, a registry, a build.

    An image that exists only as its context is pulled only from a registry that its name begins with: its
    name on Docker Hub may be somebody else's. Processes take turns, so that workers that need one image
    pull or build it once. `progress` is called with lines for somebody who waits.

    Raises ImageError.
    """
    image = Image(image) if isinstance(image, str) else image
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        if image.published and (id := find(client, image.published)):
            return Found(image.published, id, "found", time.monotonic() - begin)
        context = None
        if image.context is not None:
            try:
                context = stack.enter_context(packed(image))
            except (OSError, ValueError) as error:
                raise ImageError(
                    refusal(image, f"cannot be built, its context cannot be read: {error}")
                ) from error
        names = [name for name in (image.published, context.reference if context else "") if name]
        if found := _first(client, names, begin):
            return found
        stack.enter_context(_turn(image, progress))
        if found := _first(client, names, begin):  # by the one who had the turn before
            return found
        return _get(client, image, context, progress, begin)


def find(client: DockerClient, reference: str) -> str | None:
    """The id of an image that the engine has, or None. ImageError where the engine does not say."""
    import docker.errors

    try:
        return str(client.api.inspect_image(reference)["Id"])
    except docker.errors.ImageNotFound:
        return None
    except (docker.errors.DockerException, OSError) as error:
        raise ImageError(f"the engine does not say whether it has image {reference}: {error}") from error


def pull(client: DockerClient, image: Image, reference: str, progress: Progress) -> None:
    """Pull `reference`. ImageError where no registry gives it."""
    import docker.errors

    progress(f"{reference}: pulling")
    layers = Layers(reference, progress)
    repository, tag = (reference, None) if "@" in reference else reference.rsplit(":", 1)
    try:
        for event in client.api.pull(repository, tag=tag, stream=True, decode=True):
            if "error" in event:
                raise ImageError(refusal(image, f"could not be pulled: {event['error']}"))
            layers.take(event)
    except docker.errors.APIError as error:
        why = error.explanation or str(error)
        raise ImageError(refusal(image, f"could not be pulled: {why}")) from error
    except (docker.errors.DockerException, OSError) as error:
        raise ImageError(refusal(image, f"could not be pulled, the engine broke off: {error}")) from error


def _first(client: DockerClient, names: list[str], begin: float) -> Found | None:
    for name in names:
        if id := find(client, name):
            return Found(name, id, "found", time.monotonic() - begin)
    return None


def _get(
    client: DockerClient, image: Image, context: Context | None, progress: Progress, begin: float
) -> Found:
    """Pull or build what the engine does not have."""
    name = image.published or (context.reference if context and image.registry else "")
    if name:
        try:
            pull(client, image, name, progress)
            return Found(name, had(client, image, name), "pulled", time.monotonic() - begin)
        except ImageError as error:
            if context is None:
                raise
            progress(f"{name}: not pulled ({str(error).splitlines()[0]})")
    assert context is not None, "a name without a context is published"
    _build(client, image, context, progress)
    id = had(client, image, context.reference)
    return Found(context.reference, id, "built", time.monotonic() - begin)


def had(client: DockerClient, image: Image, reference: str) -> str:
    """The id of an image that was just got. ImageError where the engine has it not after all."""
    id = find(client, reference)
    if id is None:
        raise ImageError(refusal(image, f"was got as {reference}, says the engine, but it has it not"))
    return id


def _build(client: DockerClient, image: Image, context: Context, progress: Progress) -> None:
    import docker.errors

    progress(f"{context.reference}: building from {image.context}")
    steps = Steps(context.reference, progress)

    def failed(why: str) -> ImageError:
        last = "".join(f"\n  | {line}" for line in steps.last)
        output = f"\nlast lines of the build:{last}" if last else ""
        missing = tuple(name for name in context.bases if _is_name(name) and not _here(client, name))
        what = f"could not be built as {context.reference} from {image.context}: {why.strip()}"
        return ImageError(refusal(image, what, context, missing, output))

    try:
        for event in client.api.build(
            fileobj=context.archive,
            custom_context=True,
            dockerfile=context.dockerfile,
            tag=context.reference,
            buildargs=dict(image.arguments),
            labels={LABEL: image.name},
            use_config_proxy=True,  # as the engine's own client does
            rm=True,
            forcerm=True,
            decode=True,
        ):
            if "error" in event:
                raise failed(str(event["error"]))
            steps.take(event)
    except docker.errors.APIError as error:
        raise failed(error.explanation or str(error)) from error
    except (docker.errors.DockerException, OSError) as error:
        raise failed(f"the engine broke off: {error}") from error


def refusal(
    image: Image, why: str, context: Context | None = None, missing: tuple[str, ...] = (), output: str = ""
) -> str:
    """What happened to an image, and each way to get it; `missing` are those that its build starts from."""
    reference = image.published or (context.reference if context else "")
    ways = []
    if image.published or image.registry:
        host = image.registry or "Docker Hub"
        login = f"docker login {image.registry}".strip()
        ways.append(
            f"a registry: `docker pull {reference or image.name}` must work ({host}; if it is private, "
            f"`{login}` first)"
        )
    else:
        ways.append("a registry: begin the name with its host (HOST/NAME), and it is pulled from there first")
    if image.context is None:
        ways.append(
            f"a Dockerfile: put one into a directory and name it, "
            f"Image({image.name!r}, context=Path('DIRECTORY'))"
        )
    else:
        file = image.context / image.dockerfile
        ways.append(f"a Dockerfile: {file} must build" + (_by_hand(image, context) if context else ""))
    wanted = {image.published, *(Image(name).published for name in missing)}
    for known, option in ((BASE, "--base"), (TOXIPROXY, "--toxiproxy")):
        if known.published in wanted:
            ways.append(
                f"`nemesis images bootstrap {option}` makes {known.name} where no registry can be reached"
            )
    listed = "".join(f"\n  - {way}" for way in ways)
    return f"image {image.name} {why.strip()}{output}\nways to get it:{listed}"


def _by_hand(image: Image, context: Context) -> str:
    """The build as a command: what it makes has the name that is looked for."""
    command = ["docker", "build", "-t", context.reference]
    if image.dockerfile != "Dockerfile":
        command += ["-f", str(Path(str(image.context)) / image.dockerfile)]
    for name, value in image.arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    return f", or by hand: `{shlex.join([*command, str(image.context)])}`"


def _here(client: DockerClient, name: str) -> bool:
    """Whether the engine has the published image `name`; also where it does not say."""
    try:
        return find(client, Image(name).published) is not None
    except ImageError:
        return True


def _is_name(text: str) -> bool:
    """Whether a FROM names an image, rather than a stage of its own or an argument."""
    try:
        Image(text)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def _turn(image: Image, progress: Progress) -> Iterator[None]:
    """Let one process at a time get images."""
    path = private(base_directory()) / "images"
    begin, said = time.monotonic(), False
    while (descriptor := try_lock(path)) is None:
        waited = time.monotonic() - begin
        if waited > TURN_WITHIN:
            raise ImageError(
                f"image {image.name}: another process has held {path} for {TURN_WITHIN:.0f} s, longer than "
                f"any image should take: find it with `fuser {path}`"
            )
        if waited > SAID_AFTER and not said:
            progress(f"{image.name}: waiting for another process that pulls or builds images")
            said = True
        time.sleep(0.02)
    try:
        yield
    finally:
        os.close(descriptor)


__all__ = ["LABEL", "ensure", "find", "had", "pull", "refusal"]
