"""The WebSocket `/live`: frames come in as they are made, and each that there is time for is answered.

Where frames come faster than answers, the latest one waits and those before it are dropped and counted, so that an
answer is never about the past, and a session holds no more than the frame in work, the one that waits, and the one
that is being received.
"""

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import anyio
from pydantic import BaseModel, ConfigDict, Field
from starlette.websockets import WebSocket, WebSocketDisconnect

from pipeline.inference.environment import load_settings
from pipeline.inference.options import ImageOptions, LiveOptions, NoJsonError, OptionError, read_json
from pipeline.serving.protection.rates import spend
from pipeline.serving.session import Seen, Session

VARIABLE = "FER_LIVE"
# Close codes: of RFC 6455 and its registry where there is one, else 4000 and the HTTP status that says it.
ENDED, REFUSED, TOO_LARGE, FULL, IDLE = 1000, 1008, 1009, 1013, 4408
GOODBYE_SECONDS = 5.0  # for a client that reads nothing


class Limits(BaseModel):
    """What live sessions may take; the variable `FER_LIVE` holds what differs, as JSON, such as {"sessions": 2}."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: int = Field(default=8, ge=0)  # at once
    seconds: float = Field(default=900, gt=0)  # of a session
    idle: float = Field(default=30, gt=0)  # seconds without a message
    megabytes: float = Field(default=4, gt=0, le=16)  # of a message; beyond 16, uvicorn hangs up by itself


def load_limits() -> Limits:
    """Return the limits, with what the environment changes in them; raises PipelineError if those are no limits."""
    return load_settings(VARIABLE, Limits)


class Frame(NamedTuple):
    """An encoded image, its number among those of its session, from 1 on, and when it came, in seconds."""

    number: int
    time: float
    image: bytes


class Goodbye(NamedTuple):
    """Why the service ends a session."""

    code: int
    reason: str  # of up to 123 bytes


class Backend(Protocol):
    """What sessions need of the service."""

    async def see(self, image: bytes, options: ImageOptions) -> Seen:
        """Return what is on an encoded image; raises as `pipeline.serving.endpoint.Backend.answer`."""
        ...


class Live:
    """The open sessions of a service."""

    def __init__(self, backend: Callable[[], Backend], tell: Callable[[Exception], dict[str, Any]]) -> None:
        """Take what gives the running service, and what says in an answer how a frame failed."""
        self._backend, self._tell, self._open = backend, tell, 0

    async def converse(self, socket: WebSocket) -> None:
        """Hold one session, from its opening to its end."""
        limits = load_limits()
        await socket.accept()  # also where it is refused: a browser shows no other answer than a close code
        if self._open >= limits.sessions:
            await _close(socket, Goodbye(FULL, f"{self._open} sessions are open, which is all there may be; try later"))
            return
        self._open += 1
        try:
            goodbye: Goodbye | None = Goodbye(ENDED, f"a session ends after {limits.seconds:g} seconds; open another")
            with anyio.move_on_after(limits.seconds):
                goodbye = await Conversation(socket, self._backend, self._tell, limits).hold()
            if goodbye:
                await _close(socket, goodbye)
        finally:
            self._open -= 1


class Conversation:
    """Receives the frames of one session and answers them, both at once."""

    def __init__(
        self,
        socket: WebSocket,
        backend: Callable[[], Backend],
        tell: Callable[[Exception], dict[str, Any]],
        limits: Limits,
    ) -> None:
        self._socket, self._backend, self._tell, self._limits = socket, backend, tell, limits
        self._options = LiveOptions()
        self._waiting: Frame | None = None
        self._came = anyio.Event()
        self._received = self._dropped = 0
        self._busy = False

    async def hold(self) -> Goodbye | None:
        """Go on until the client leaves, or there is a reason to end it, which is returned."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._answer)
            goodbye = await self._receive()
            tasks.cancel_scope.cancel()
        return goodbye

    async def _receive(self) -> Goodbye | None:
        most, start, first = self._limits.megabytes * 1e6, time.monotonic(), True
        while True:
            try:
                with anyio.fail_after(self._limits.idle):
                    message = await self._socket.receive()
            except TimeoutError:
                if self._busy:  # it may be waiting for us
                    continue
                return Goodbye(IDLE, f"no frame came for {self._limits.idle:g} seconds")
            if message["type"] == "websocket.disconnect":
                return None
            text, image = message.get("text"), message.get("bytes")
            if len(text or image or b"") > most:
                return Goodbye(TOO_LARGE, f"a message has more than {self._limits.megabytes:g} MB")
            if image is not None:
                self._put(image, time.monotonic() - start)
            elif not first:
                return Goodbye(REFUSED, "a text with options can only be the first message; frames are binary")
            else:
                try:
                    self._options = read_json(text or "", LiveOptions)
                except (OptionError, NoJsonError) as error:
                    return Goodbye(REFUSED, str(error))
            first = False

    def _put(self, image: bytes, seconds: float) -> None:
        self._received += 1
        self._dropped += self._waiting is not None
        self._waiting = Frame(self._received, seconds, image)
        self._came.set()

    async def _take(self) -> Frame:
        while (frame := self._waiting) is None:
            self._came = anyio.Event()
            await self._came.wait()
        self._waiting = None
        return frame

    async def _answer(self) -> None:
        session: Session | None = None
        while True:
            self._busy = False
            frame = await self._take()
            self._busy = True
            spend(self._socket.scope, 1)
            session = session or Session(self._options)  # options come before the first frame
            try:
                seen = await self._backend().see(frame.image, self._options)
                said = session.answer(frame.time, seen)
            except Exception as error:  # a frame that fails does no harm to the next
                said = self._tell(error)
            about = {"frame": frame.number, "time": round(frame.time, 3), "dropped": self._dropped}
            try:
                await self._socket.send_text(json.dumps({**about, **said}))
            except (WebSocketDisconnect, RuntimeError):  # the latter is uvicorn's, for a session that it ended itself
                return


async def _close(socket: WebSocket, goodbye: Goodbye) -> None:
    with anyio.move_on_after(GOODBYE_SECONDS):
        try:
            await socket.close(goodbye.code, goodbye.reason.encode()[:123].decode(errors="ignore"))
        except (WebSocketDisconnect, RuntimeError):  # the client was faster
            return
