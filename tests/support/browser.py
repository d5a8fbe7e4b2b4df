"""A browser without a window: it speaks to a running viewer as viser's page does."""

import json
import math
import random
from typing import Any

import msgspec.msgpack
import viser
import zstandard
from websockets import Origin, Subprotocol
from websockets.sync.client import ClientConnection, connect

CAMERA: dict[str, Any] = {
    "type": "ViewerCameraMessage",
    "wxyz": [1.0, 0.0, 0.0, 0.0],
    "position": [0.0, 0.0, 1.0],
    "fov": 1.0,
    "near": 0.01,
    "far": 1000.0,
    "image_height": 300,
    "image_width": 400,
    "look_at": [0.0, 0.0, 2.0],
    "up_direction": [0.0, -1.0, 0.0],
}


def come_in(port: int, origin: str | None = None) -> ClientConnection:
    """A connection as a page opens it. Raises websockets' InvalidStatus where the door is closed."""
    return connect(
        f"ws://127.0.0.1:{port}",
        subprotocols=[Subprotocol(f"viser-v{viser.__version__}")],
        max_size=None,
        origin=None if origin is None else Origin(origin),
        compression=None,
        open_timeout=60,
    )


def say(connection: ClientConnection, message: dict[str, Any]) -> None:
    connection.send(msgspec.msgpack.encode(message))


def heard(connection: ClientConnection, patience_s: float) -> list[dict[str, Any]]:
    """The messages of the next frame. Raises TimeoutError."""
    raw = connection.recv(patience_s)
    assert isinstance(raw, bytes)
    packed = int.from_bytes(raw[8:16], "little")
    return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(raw[16 : 16 + packed]))["messages"]


def wait_for_picture(connection: ClientConnection, patience_s: float = 60.0) -> None:
    """Raises TimeoutError where the next `patience_s` of silence bring none."""
    while not any(message["type"] == "BackgroundImageMessage" for message in heard(connection, patience_s)):
        pass


def widgets(messages: list[dict[str, Any]]) -> list[str]:
    """What the widgets of the page are called that these messages make."""
    return [message["uuid"] for message in messages if "value" in message and "container_uuid" in message]


# --- what no browser would say ----------------------------------------------------------------------------------------

_VALUES = [
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    1e-300,
    1e9,
    1e308,
    -1e308,
    2**63,
    None,
    True,
    "x",
    "x" * 5000,
    [],
    {},
    [math.nan] * 3,
    [1.0] * 1000,
    [[[[]]]],
    b"bytes",
    "../../etc/passwd",
    "\0",
]
_OTHERS = [
    "ShareUrlRequest",
    "FileTransferStartUpload",
    "FileTransferPart",
    "GetRenderResponseMessage",
    "GuiFormDirty",
    "GuiCloseModalMessage",
    "ScenePointerMessage",
    "Message",
    "",
    "__class__",
]


def junk(rng: random.Random, known: list[str]) -> bytes | str:
    """A message that means no good, by structure: fields of true ones replaced, others' kinds, broken frames."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(300))
    if kind == 1:
        return msgspec.msgpack.encode(CAMERA)[: rng.randrange(120)]
    if kind == 2:
        return b"\x91" * rng.choice([10, 5000, 60_000]) + b"\xc0"
    if kind == 3:
        return rng.choice(["text", "", json.dumps(CAMERA)])
    if kind == 4:
        more = {rng.choice(["uuid", "name", "size_bytes", "part_count"]): rng.choice(_VALUES)}
        return msgspec.msgpack.encode({"type": rng.choice(_OTHERS)} | more)
    if kind == 5 and known:
        updates = {rng.choice(["value"] * 5 + ["order", "update_cb", "min", "__class__"]): rng.choice(_VALUES)}
        message = {"type": "GuiUpdateMessage", "uuid": rng.choice(known), "updates": updates}
        return msgspec.msgpack.encode(message)
    if kind == 6:
        pixels = {"image_height": rng.choice([1e9, 0, -5, 1]), "image_width": rng.choice([1e9, 0, -5, 1])}
        return msgspec.msgpack.encode(CAMERA | pixels)
    mutated = dict(CAMERA)
    for name in rng.sample(sorted(mutated), rng.randrange(1, 3)):
        if rng.random() < 0.2:
            del mutated[name]
        else:
            mutated[name] = rng.choice(_VALUES)
    return msgspec.msgpack.encode(mutated)
