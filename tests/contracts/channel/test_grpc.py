"""What only the real channel can meet: dead peers, TLS, forks, bad messages, full servers."""

from __future__ import annotations

import datetime as dt
import ipaddress
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fakes import FakeLeader, FakeStandby, ballot, digests, eventually
from proxy import Proxy
from wires import Follower, settings

from airflow_kafka_exactly.adapters.channel import GrpcChannel, GrpcServer, codec, listening, server
from airflow_kafka_exactly.adapters.channel import kafka_exactly_pb2 as pb
from airflow_kafka_exactly.errors import ConfigurationError, PeerRefused, Unavailable
from airflow_kafka_exactly.ports import Addition
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.votes import BallotAnswer, Hello, Notice, NoticeKind

LIFE = Life(group_id="payments", slot="dag.task[0]", incarnation=3)
KEEPALIVE_S = settings().keepalive_s
DEAD_WITHIN_S = 2 * KEEPALIVE_S + 1.5


@pytest.fixture
def leader():
    return FakeLeader()


@pytest.fixture
def served(leader):
    """A running server's address; no thread is left after the test."""
    before = set(threading.enumerate())
    running = GrpcServer(settings())
    yield running.start(leader), running
    running.stop()
    eventually(lambda: set(threading.enumerate()) <= before)


def test_a_dead_peer_is_noticed_by_both_ends_within_keepalive(leader, served):
    with Proxy(served[0]) as proxy:
        link = GrpcChannel(settings()).link(proxy.address, LIFE)
        proxy.freeze()
        frozen = time.monotonic()
        eventually(lambda: not link.alive, DEAD_WITHIN_S)
        eventually(lambda: leader.gone == [LIFE], DEAD_WITHIN_S - (time.monotonic() - frozen))
        with pytest.raises(Unavailable):
            link.vote(ballot(LIFE, 1))
        link.close()


def test_a_vote_that_is_out_when_the_leader_dies_is_unknown_in_bounded_time(served):
    with Proxy(served[0]) as proxy:
        link = GrpcChannel(settings()).link(proxy.address, LIFE)
        proxy.freeze()
        asked = time.monotonic()
        with pytest.raises(Unavailable, match="kafka_exactly_channel"):
            link.vote(ballot(LIFE, 1000))
        assert time.monotonic() - asked < DEAD_WITHIN_S
        link.close()


def test_a_frozen_leader_is_given_up_once_another_one_leads(served):
    patient, another_leads = settings(keepalive_s=60.0, call_timeout_s=60.0), threading.Event()
    with Proxy(served[0]) as proxy:
        link = GrpcChannel(patient).link(proxy.address, LIFE, another_leads.is_set)
        assert link.vote(ballot(LIFE, 1)).votes[0].tolist() == [0]
        proxy.freeze()
        threading.Timer(0.1, another_leads.set).start()
        asked = time.monotonic()
        with pytest.raises(Unavailable, match="given up"):
            link.vote(ballot(LIFE, 1))
        with pytest.raises(Unavailable, match="given up"):
            GrpcChannel(patient).link(proxy.address, LIFE, another_leads.is_set)
        assert time.monotonic() - asked < DEAD_WITHIN_S
        link.close()


def test_an_idle_link_stays_alive(served):
    link = GrpcChannel(settings()).link(served[0], LIFE)
    idle_until = time.monotonic() + 5 * KEEPALIVE_S
    while time.monotonic() < idle_until:
        assert link.alive
        time.sleep(0.02)
    assert link.vote(ballot(LIFE, 2)).votes[0].tolist() == [0, 1]
    link.close()


def test_a_leader_that_does_not_answer_is_given_up_at_the_deadline(leader, served):
    channel, release = GrpcChannel(settings(call_timeout_s=0.3)), threading.Event()
    link = channel.link(served[0], LIFE)
    leader.vote = lambda _ballot: release.wait(10)
    asked = time.monotonic()
    with pytest.raises(Unavailable, match="DEADLINE"):
        link.vote(ballot(LIFE, 1))
    assert time.monotonic() - asked < 2
    release.set()
    link.close()


def test_nobody_there_is_known_at_once():
    asked = time.monotonic()
    with pytest.raises(Unavailable, match=r"127.0.0.1:1: UNAVAILABLE"):
        GrpcChannel(settings()).link("127.0.0.1:1", LIFE)
    assert time.monotonic() - asked < 2


def test_a_peer_that_accepts_and_says_nothing_is_given_up(served):
    with Proxy(served[0]) as proxy:
        proxy.freeze()
        quick = GrpcChannel(settings(call_timeout_s=0.3))
        with pytest.raises(Unavailable):
            quick.link(proxy.address, LIFE)
        with pytest.raises(Unavailable):
            quick.collect(proxy.address)
        with pytest.raises(Unavailable):
            quick.follow(proxy.address, "one", FakeStandby(), lambda: False)


def test_a_message_that_does_not_fit_is_refused(served):
    link = GrpcChannel(settings()).link(served[0], LIFE)
    uneven = pb.Ballot(life=pb.Life(slot="x"), parts=[pb.BallotPart(offsets=bytes(8), digests=bytes(32))])
    with pytest.raises(PeerRefused, match="1 offsets with 2 digests"):
        link._ask("Vote", uneven)
    with pytest.raises(PeerRefused, match="no digests"):
        link._ask("Vote", pb.Ballot(parts=[pb.BallotPart(digests=b"odd")]))
    assert link.vote(ballot(LIFE, 1)).votes[0].tolist() == [0]
    link.close()


def test_a_mistake_in_the_leader_is_logged_there_and_harms_no_link(leader, served, caplog):
    link = GrpcChannel(settings()).link(served[0], LIFE)
    leader.error = ZeroDivisionError("a bug")
    with pytest.raises(Unavailable, match="ZeroDivisionError"):
        link.hello(Hello(LIFE, "cluster-1"))
    assert "a bug" in caplog.text
    leader.error = None
    assert link.hello(Hello(LIFE, "cluster-1")) == leader.epoch
    link.close()


def test_a_full_server_refuses_streams_and_goes_on_voting(monkeypatch, leader):
    monkeypatch.setattr(server, "MAX_STREAMS", 2)
    full = GrpcServer(settings())
    address = full.start(leader)
    channel = GrpcChannel(settings())
    one = channel.link(address, LIFE)
    two = channel.link(address, Life(group_id="g", slot="two", incarnation=1))
    three = Life(group_id="g", slot="three", incarnation=1)
    with pytest.raises(Unavailable, match="2 streams"):
        channel.link(address, three)
    assert one.vote(ballot(LIFE, 1)).epoch == leader.epoch
    two.close()
    eventually(lambda: leader.gone)
    link = channel.link(address, three)
    assert leader.gone == [Life(group_id="g", slot="two", incarnation=1)]
    for open_link in (one, link):
        open_link.close()
    full.stop()


def test_a_member_that_reads_no_notices_loses_its_stream_not_the_leader_its_time(served):
    link = GrpcChannel(settings()).link(served[0], LIFE)
    notice = Notice("payments", NoticeKind.RELEASED_DOUBTS)
    asked = time.monotonic()
    for _ in range(200_000):
        served[1].notify(notice)
        if not link.alive:
            break
    assert not link.alive
    assert time.monotonic() - asked < 30
    link.close()


def test_a_stop_does_not_wait_for_a_stuck_handler(leader):
    before = set(threading.enumerate())
    stuck, release = GrpcServer(settings()), threading.Event()
    entered = threading.Event()
    leader.vote = lambda _ballot: (entered.set(), release.wait(30))
    link = GrpcChannel(settings()).link(stuck.start(leader), LIFE)
    with ThreadPoolExecutor(1) as asking:
        vote = asking.submit(link.vote, ballot(LIFE, 1))
        assert entered.wait(5)
        asked = time.monotonic()
        stuck.stop()
        assert time.monotonic() - asked < 1.0
        with pytest.raises(Unavailable):
            vote.result(5)
    release.set()
    link.close()
    eventually(lambda: set(threading.enumerate()) <= before)


def test_a_port_that_is_taken_is_the_configurations_fault(served):
    port = int(served[0].rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=f"kafka_exactly_channel.*{port}"):
        GrpcServer(settings(port=port)).start(FakeLeader())


@pytest.mark.parametrize(
    ("bind", "advertise", "expected"),
    [
        ("127.0.0.1", "", "127.0.0.1:5"),
        ("127.0.0.1", "coordinator-1", "coordinator-1:5"),
        ("0.0.0.0", "host", "host:5"),
        ("::1", "", "[::1]:5"),
    ],
)
def test_the_advertised_address(bind, advertise, expected):
    assert listening.advertised(settings(bind=bind, advertise=advertise), 5) == expected


def test_a_wildcard_is_never_advertised():
    assert not listening.advertised(settings(bind="0.0.0.0"), 5).startswith("0.0.0.0")


def test_tls_protects_the_channel_when_a_certificate_is_given(leader):
    key, certificate = self_signed()
    secure = GrpcServer(settings(tls_key=key, tls_certificate=certificate))
    address = secure.start(leader)
    for trusting in (settings(tls_ca=certificate), settings(tls_key=key, tls_certificate=certificate)):
        link = GrpcChannel(trusting).link(address, LIFE)
        assert link.hello(Hello(LIFE, "cluster-1")) == leader.epoch
        link.close()
    for stranger in (settings(call_timeout_s=1.0), settings(tls_ca=self_signed()[1], call_timeout_s=1.0)):
        with pytest.raises(Unavailable):
            GrpcChannel(stranger).link(address, LIFE)
    secure.stop()


def test_a_process_may_fork_until_the_first_use():
    """Airflow forks its workers: objects that exist, but were not used, must work in parent and child."""
    script = """
        import os, sys
        from fakes import FakeLeader, ballot
        from airflow_kafka_exactly.adapters.channel import GrpcChannel, GrpcServer
        from airflow_kafka_exactly.protocol.claims import Life
        from airflow_kafka_exactly.settings import ChannelSettings

        settings = ChannelSettings(connection="c", secret="a secret for tests only")
        server, channel = GrpcServer(settings), GrpcChannel(settings)
        child = os.fork()
        life = Life(group_id="g", slot="s", incarnation=1)
        link = channel.link(server.start(FakeLeader()), life)
        votes = link.vote(ballot(life, 3)).votes[0].tolist()
        link.close()
        server.stop()
        assert votes == [0, 1, 2], votes
        if child:
            assert os.waitpid(child, 0)[1] == 0
        print("done")
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, found.stdout.split()) == (0, ["done", "done"]), found.stderr


def test_the_generated_code_is_what_the_proto_file_generates(tmp_path):
    pytest.importorskip("grpc_tools")
    root = Path(pb.__file__).parents[3]
    source = Path(pb.DESCRIPTOR.name)
    command = ["-I", ".", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", str(source)]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *command], cwd=root, check=True, timeout=60)
    for generated in ("kafka_exactly_pb2.py", "kafka_exactly_pb2.pyi"):
        expected = (tmp_path / source.parent / generated).read_text()
        assert (root / source.parent / generated).read_text() == expected, "run: make proto"


def self_signed() -> tuple[bytes, bytes]:
    """Key and certificate of 127.0.0.1, valid for an hour."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leader")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)


def test_an_answer_that_does_not_fit_its_question_drops_the_peer(leader, served):
    link = GrpcChannel(settings()).link(served[0], LIFE)
    leader.vote = lambda _ballot: BallotAnswer(7, (np.zeros(2, np.uint8),))
    with pytest.raises(PeerRefused, match="differ in number"):
        link.vote(ballot(LIFE, 3))
    leader.vote = lambda _ballot: BallotAnswer(7, (np.full(3, 9, np.uint8),))
    with pytest.raises(PeerRefused, match="unknown vote 9"):
        link.vote(ballot(LIFE, 3))
    link.close()


@pytest.mark.parametrize(
    ("pieces", "wrong"),
    [
        ([("a", 1, 4, b"ab")], "the end came within"),
        ([("a", 1, 4, b"ab"), ("b", 1, 4, b"cd")], "was unfinished"),
        ([("a", 1, 4, b"abcde")], "more bytes"),
        ([("a", 1, codec.SNAPSHOT_MAX_BYTES + 1, b"a")], "a piece of"),
    ],
)
def test_snapshots_that_are_not_whole_are_refused(pieces, wrong):
    reader = codec.SnapshotReader()

    def read() -> None:
        for group, sequence, total, data in pieces:
            reader.add(pb.SnapshotPiece(group_id=group, sequence=sequence, total=total, data=data))
        reader.snapshots()

    with pytest.raises(ValueError, match=wrong):
        read()


def test_a_standby_that_says_nonsense_leaves_the_set(leader, served):
    follower = Follower(lambda handler, stop: GrpcChannel(settings()).follow(served[0], "one", handler, stop))
    eventually(lambda: served[1].replicate(Addition("payments", 1, digests(1))))
    follower.standby.knows = lambda _ids: [True] * 100
    assert served[1].replicate(Addition("payments", 2, digests(3))) == {}
    eventually(lambda: follower.over)
    assert served[1].replicate(Addition("payments", 3, digests(3))) == {}
