"""The leader's (and every contender's) end of the channel."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc

from airflow_kafka_exactly.adapters.channel import codec, service
from airflow_kafka_exactly.adapters.channel import kafka_exactly_pb2 as pb
from airflow_kafka_exactly.adapters.channel.listening import advertised, listen
from airflow_kafka_exactly.adapters.channel.streams import Standbys, StandbyStream, Stream, Streams
from airflow_kafka_exactly.errors import KafkaExactlyError
from airflow_kafka_exactly.ports import Addition, LeaderHandler
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.votes import Notice
from airflow_kafka_exactly.settings import ChannelSettings

log = logging.getLogger(__name__)

MAX_STREAMS = 512
"""Members and standbys of one server; each holds a thread, which is started when it is needed."""
CALL_THREADS = 32
_STOP_S = 0.8

_Answer = Callable[[Any, Any], Any]


class GrpcServer:
    """A `ChannelServer`. Nothing of grpc exists before `start`: a process may fork until then."""

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings = settings
        self._members: Streams[Stream[Notice]] = Streams()
        self._standbys = Standbys()
        self._threads: list[threading.Thread] = []
        self._streams = threading.BoundedSemaphore(MAX_STREAMS)
        self._stopping = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._server: Any = None
        self._handler: LeaderHandler | None = None

    def start(self, handler: LeaderHandler) -> str:
        """See `ChannelServer.start`. `ConfigurationError` when the port is taken or the certificate is no good."""
        assert self._server is None, "a channel server starts once"
        self._handler = handler
        self._pool = ThreadPoolExecutor(
            MAX_STREAMS + CALL_THREADS,
            thread_name_prefix="kafka-exactly-channel",
            initializer=lambda: self._threads.append(threading.current_thread()),
        )
        server, port = listen(self._settings, self._pool, self._methods(), MAX_STREAMS + 2 * CALL_THREADS)
        self._server = server
        server.start()
        return advertised(self._settings, port)

    def notify(self, notice: Notice) -> None:
        """See `ChannelServer.notify`. Never waits; a member that does not read its notices loses its stream."""
        for life, stream in self._members.open():
            if life.group_id == notice.group_id:
                stream.offer(notice)

    def replicate(self, addition: Addition) -> Mapping[str, Sequence[bool]]:
        """See `ChannelServer.replicate`. Waits at most `standby_ack_timeout_s` for all of them together."""
        return self._standbys.replicate(addition, self._settings.standby_ack_timeout_s)

    def dismiss(self) -> None:
        """End all streams, because this contender stood down; members and standbys look for the leader again."""
        self._members.cancel_all()
        self._standbys.cancel_all()

    def stop(self) -> None:
        """Within a second, except for threads in which a handler still works; they end when it returns."""
        if self._server is None or self._pool is None:
            return
        self._stopping.set()
        deadline = time.monotonic() + _STOP_S
        self.dismiss()
        self._server.stop(None).wait(_STOP_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    # -- the methods of the service ------------------------------------------------------------------------------------

    def _methods(self) -> Mapping[str, _Answer]:
        return {
            "Attend": self._attend,
            "Greet": self._answer(lambda h, m: pb.Epoch(epoch=h.hello(codec.read_hello(m)))),
            "Vote": self._answer(lambda h, m: codec.write_answer(h.vote(codec.read_ballot(m)))),
            "Drop": self._answer(lambda h, m: h.drop(codec.read_dropped(m)) or pb.Done()),
            "Follow": self._follow,
            "Collect": self._collect,
        }

    def _answer(self, answer: Callable[[Any, Any], Any]) -> _Answer:
        def call(message: Any, context: Any) -> Any:
            try:
                return answer(self._handler, message)
            except Exception as error:  # noqa: BLE001 - each becomes a status
                self._abort(context, error)

        return call

    def _attend(self, message: pb.Life, context: Any) -> Iterator[pb.Told]:
        assert self._handler is not None
        self._admit(context)
        life, stream = codec.read_life(message), Stream[Notice](context)
        self._members.add(life, stream)
        gone = self._handler.member_gone
        self._at_end(context, stream, lambda: self._gone_member(life, stream, gone))
        yield pb.Told(registered=pb.Done())
        for notice in stream.messages():
            yield pb.Told(notice=codec.write_notice(notice))

    def _follow(self, messages: Iterator[pb.Heard], context: Any) -> Iterator[pb.Fed]:
        assert self._handler is not None
        self._admit(context)
        first = next(messages, None)
        if first is None:
            return
        # Registered before its snapshots are taken, or an addition in between would reach neither.
        stream = StandbyStream(context)
        self._standbys.add(first.standby, stream)
        gone = self._handler.standby_gone
        self._at_end(context, stream, lambda: self._gone_standby(first.standby, stream, gone))
        try:
            snapshots = self._handler.follow(first.standby)
        except Exception as error:  # noqa: BLE001
            self._abort(context, error)
        for piece in codec.write_pieces(snapshots):
            yield pb.Fed(piece=piece)
        yield pb.Fed(loaded=pb.Done())
        if next(messages, None) is None:
            return
        stream.caught_up()
        yield from self._feed(stream, messages, {s.group_id: s.sequence for s in snapshots})

    def _feed(
        self, stream: StandbyStream, messages: Iterator[pb.Heard], held: Mapping[str, int]
    ) -> Iterator[pb.Fed]:
        """`held`: the last addition that the snapshot of each group holds already; sent again, the standby would say that
        it knew the ids, and the leader would ask the ledger about fresh records."""
        for feed in stream.messages():
            if feed.addition.sequence > held.get(feed.addition.group_id, -1):
                yield pb.Fed(addition=codec.write_addition(feed.addition))
                heard = next(messages, None)
                if heard is None:
                    return
                try:
                    known = codec.read_known(heard.known, len(feed.addition.digests))
                except ValueError as error:
                    log.warning("a standby answered what does not fit: %s", error)
                    stream.cancel()
                    return
                if feed.known is not None:
                    feed.known.set_result(known)
            stream.caught_up()

    def _collect(self, _message: pb.Done, context: Any) -> Iterator[pb.SnapshotPiece]:
        assert self._handler is not None
        try:
            snapshots = self._handler.snapshots()
        except Exception as error:  # noqa: BLE001
            self._abort(context, error)
        yield from codec.write_pieces(snapshots)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _admit(self, context: Any) -> None:
        """Streams are counted, so that there is always a thread left for calls."""
        if not self._streams.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_STREAMS} streams are open already")
        if not context.add_callback(self._streams.release):
            self._streams.release()

    def _at_end(self, context: Any, stream: Stream[Any], gone: Callable[[], None]) -> None:
        """grpc calls back in the one thread that serves all events: the handler is told in a thread of the pool."""

        def ended() -> None:
            stream.end()
            if not self._stopping.is_set() and self._pool is not None:
                with contextlib.suppress(RuntimeError):  # stopped in this moment
                    self._pool.submit(gone)

        if not context.add_callback(ended):
            ended()

    def _gone_member(self, life: Life, stream: Stream[Notice], tell: Callable[[Life], None]) -> None:
        if self._members.remove(life, stream):
            self._tell(tell, life)

    def _gone_standby(self, name: str, stream: StandbyStream, tell: Callable[[str], None]) -> None:
        if self._standbys.remove(name, stream):
            self._tell(tell, name)

    def _tell(self, tell: Callable[[Any], None], peer: object) -> None:
        try:
            tell(peer)
        except KafkaExactlyError as error:
            log.info("nobody was told that %s is gone: %s", peer, error)
        except Exception:
            log.exception("telling that %s is gone failed", peer)

    def _abort(self, context: Any, error: Exception) -> NoReturn:
        if isinstance(error, KafkaExactlyError | ValueError):
            context.abort(service.status_of(error), str(error))
        log.error("a call of the channel failed", exc_info=error)
        context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__} in the leader, see its log")
        raise AssertionError("abort raises")
