"""A member's, standby's and new leader's end of the channel."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from airflow_kafka_exactly.adapters.channel import codec, service
from airflow_kafka_exactly.adapters.channel import kafka_exactly_pb2 as pb
from airflow_kafka_exactly.adapters.channel.inbox import Inbox, StreamEnded
from airflow_kafka_exactly.errors import KafkaExactlyError, NotLeading, PeerRefused, Unavailable
from airflow_kafka_exactly.ports import FilterSnapshot, LeaderLink, StandbyHandler, never
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.votes import Ballot, BallotAnswer, Dropped, Hello, Notice
from airflow_kafka_exactly.settings import ChannelSettings

_LOOK_S = 0.1
"""How often a standby asks whether to stop."""
GIVE_UP_LOOK_S = 0.5
"""How often somebody who waits for an answer asks whether to wait on."""
_REASON_S = 0.5
_NOTICES_AT_ONCE = 1000


class Peer:
    """One connection to one address, and its calls. Errors of grpc end here. `given_up`: see `Channel.link`."""

    def __init__(
        self, settings: ChannelSettings, address: str, version: str, given_up: Callable[[], bool] = never
    ) -> None:
        self.settings, self.address, self._given_up = settings, address, given_up
        self._metadata = service.metadata(settings, version)
        self._channel = _connect(settings, address)
        self._calls = {
            name: getattr(self._channel, kind)(
                f"/{service.SERVICE_NAME}/{name}", request.SerializeToString, response.FromString
            )
            for name, (kind, request, response) in service.methods().items()
        }

    def ask(self, method: str, message: object) -> Any:
        """One answer, within `call_timeout_s`."""
        try:
            call = self._calls[method].future(
                message, timeout=self.settings.call_timeout_s, metadata=self._metadata
            )
            return self._result(call)
        except grpc.RpcError as error:
            raise self.error(error) from error
        except (
            ValueError,
            grpc.FutureCancelledError,
        ) as error:  # the channel was closed before, or meanwhile
            raise self.unavailable(str(error) or "closed while it was asked") from error

    def stream(self, method: str, message: object) -> Inbox:
        """A stream of answers. It has no deadline: keepalive watches the peer, and its reader the progress."""
        return Inbox(self._calls[method](message, metadata=self._metadata))

    def next(self, inbox: Inbox) -> Any:
        """The next message of a stream that must make progress."""
        until = time.monotonic() + self.settings.call_timeout_s
        while (left := until - time.monotonic()) > 0:
            try:
                message = inbox.get(min(left, GIVE_UP_LOOK_S))
            except StreamEnded as end:
                if end.error is None:
                    raise
                raise self.error(end.error) from end.error
            if message is not None:
                return message
            self._wait_on()
        raise self.unavailable(f"nothing came for {self.settings.call_timeout_s:g} s")

    def _result(self, call: Any) -> Any:
        """Its deadline ends the waiting, if nothing else does."""
        while True:
            try:
                return call.result(GIVE_UP_LOOK_S)
            except grpc.FutureTimeoutError:
                try:
                    self._wait_on()
                except Unavailable:
                    call.cancel()
                    raise

    def _wait_on(self) -> None:
        if self._given_up():
            raise self.unavailable("given up, its answer is not waited for any more")

    def error(self, error: grpc.RpcError) -> KafkaExactlyError:
        return service.error_of(error, self.address, self.settings)

    def unavailable(self, detail: str) -> Unavailable:
        return service.unavailable(self.address, self.settings, detail)

    def misfit(self, error: ValueError) -> PeerRefused:
        return PeerRefused(f"{self.address} sent what does not fit: {error}")

    def close(self) -> None:
        self._channel.close()


class GrpcLink:
    """A `LeaderLink`: one stream for presence and notices, one call for each question; usable from several threads."""

    def __init__(self, peer: Peer, life: Life) -> None:
        self._peer, self._life = peer, life
        self._left: KafkaExactlyError | None = None
        self._inbox = peer.stream("Attend", codec.write_life(life))
        try:
            peer.next(self._inbox)
        except (KafkaExactlyError, StreamEnded) as error:
            self.close()
            raise error if isinstance(error, KafkaExactlyError) else peer.unavailable("it hung up") from error

    @property
    def alive(self) -> bool:
        return self._left is None and self._inbox.alive

    def hello(self, hello: Hello) -> int:
        return int(self._ask("Greet", codec.write_hello(hello)).epoch)

    def vote(self, ballot: Ballot) -> BallotAnswer:
        message = self._ask("Vote", codec.write_ballot(ballot))
        try:
            return codec.read_answer(message, ballot)
        except ValueError as error:
            raise self._peer.misfit(error) from error

    def drop(self, dropped: Dropped) -> None:
        self._ask("Drop", codec.write_dropped(dropped))

    def notices(self) -> Sequence[Notice]:
        found: list[Notice] = []
        while len(found) < _NOTICES_AT_ONCE:
            try:
                told = self._inbox.get(0)
            except StreamEnded:
                break
            if told is None:
                break
            try:
                found.append(codec.read_notice(told.notice))
            except ValueError as error:
                raise self._peer.misfit(error) from error
        return found

    def close(self) -> None:
        """The leader hears of it as `member_gone`."""
        self._left = self._left or self._peer.unavailable("this link was closed")
        self._inbox.close()
        self._peer.close()

    def _ask(self, method: str, message: object) -> Any:
        if not self.alive:
            raise self._why()
        try:
            return self._peer.ask(method, message)
        except NotLeading as error:
            self._left = error
            raise

    def _why(self) -> KafkaExactlyError:
        if self._left is not None:
            return self._left
        ended = self._inbox.end(_REASON_S)
        return self._peer.unavailable("it hung up") if ended is None else self._peer.error(ended)


class GrpcChannel:
    """A `Channel`. Nothing of grpc exists before the first call: a process may fork until then."""

    def __init__(self, settings: ChannelSettings, version: str = service.PROTOCOL_VERSION) -> None:
        self._settings, self._version = settings, version

    def link(self, address: str, life: Life, given_up: Callable[[], bool] = never) -> LeaderLink:
        """Connects, and returns when the server has registered the member: from then on it gets every notice. `PeerRefused`
        (secret, version) and `Unavailable` come from here already."""
        peer = Peer(self._settings, address, self._version, given_up)
        return GrpcLink(peer, life)

    def follow(self, address: str, standby: str, handler: StandbyHandler, stop: Callable[[], bool]) -> None:
        """See `Channel.follow`. `Unavailable` when the stream breaks before the snapshots are loaded."""
        peer = Peer(self._settings, address, self._version)
        try:
            _Following(peer, handler).run(standby, stop)
        finally:
            peer.close()

    def collect(self, address: str) -> Sequence[FilterSnapshot]:
        """See `Channel.collect`. Waits at most `call_timeout_s` for each megabyte."""
        peer = Peer(self._settings, address, self._version)
        try:
            inbox = peer.stream("Collect", pb.Done())
            reader = codec.SnapshotReader()
            try:
                while True:
                    reader.add(peer.next(inbox))
            except StreamEnded:
                return reader.snapshots()
            except ValueError as error:
                raise peer.misfit(error) from error
            finally:
                inbox.close()
        finally:
            peer.close()


class _Following:
    """A standby's stream: load the snapshots, then acknowledge each addition."""

    def __init__(self, peer: Peer, handler: StandbyHandler) -> None:
        self._peer, self._handler = peer, handler
        self._says: queue.Queue[pb.Heard | None] = queue.Queue()

    def run(self, standby: str, stop: Callable[[], bool]) -> None:
        self._says.put(pb.Heard(standby=standby))
        inbox = self._peer.stream("Follow", self._spoken())
        try:
            if self._load(inbox, stop):
                self._keep_up(inbox, stop)
        except ValueError as error:
            raise self._peer.misfit(error) from error
        finally:
            inbox.close()
            self._says.put(None)

    def _spoken(self) -> Iterator[pb.Heard]:
        """Read by a thread of grpc's."""
        while (message := self._says.get()) is not None:
            yield message

    def _load(self, inbox: Inbox, stop: Callable[[], bool]) -> bool:
        reader, waits_until = codec.SnapshotReader(), self._soon()
        while not stop():
            try:
                fed = inbox.get(_LOOK_S)
            except StreamEnded as end:
                raise self._broken(end) from end.error
            if fed is None:
                if time.monotonic() > waits_until:
                    raise self._peer.unavailable(f"no snapshot for {self._peer.settings.call_timeout_s:g} s")
                continue
            if fed.WhichOneof("what") == "loaded":
                self._handler.load(reader.snapshots())
                self._says.put(pb.Heard(loaded=pb.Done()))
                return True
            reader.add(fed.piece)
            waits_until = self._soon()
        return False

    def _keep_up(self, inbox: Inbox, stop: Callable[[], bool]) -> None:
        while not stop():
            try:
                fed = inbox.get(_LOOK_S)
            except StreamEnded as end:
                error = self._broken(end)
                if isinstance(error, NotLeading | PeerRefused):
                    raise error from end.error
                return
            if fed is not None:
                known = self._handler.add(codec.read_addition(fed.addition))
                self._says.put(pb.Heard(known=codec.write_known(known)))

    def _broken(self, end: StreamEnded) -> KafkaExactlyError:
        return self._peer.unavailable("it hung up") if end.error is None else self._peer.error(end.error)

    def _soon(self) -> float:
        return time.monotonic() + self._peer.settings.call_timeout_s


def _connect(settings: ChannelSettings, address: str) -> Any:
    options = service.options(settings)
    trusted = settings.tls_ca or settings.tls_certificate
    if trusted is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted), options)
