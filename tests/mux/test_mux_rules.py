"""Random walks over a pair of Muxes: whatever the order of calls and flushes, every byte arrives once and in order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from meshnode.config.mesh import MeshSection
from meshnode.mux import Data, Ended, Head, Mux, Opened, Reset, StreamKey
from tests.mux.pair import OK, REQUEST, Pair

SECTION = MeshSection(stream_window_bytes=2048, link_window_bytes=1 << 17)


class Walk(RuleBasedStateMachine):
    """Answers travel on streams of both sides; a model holds what each should carry."""

    answers = Bundle("answers")

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(SECTION)
        self.sent: dict[StreamKey, bytes] = {}
        self.got: dict[StreamKey, bytes] = {}
        self.ended: set[StreamKey] = set()
        self.finished: set[StreamKey] = set()
        self.gone: set[StreamKey] = set()
        self.paused: set[StreamKey] = set()
        self.answerer: dict[StreamKey, Mux] = {}

    @rule(target=answers, by_dialer=st.booleans())
    def ask(self, by_dialer: bool) -> StreamKey:
        asker = self.pair.dialer if by_dialer else self.pair.listener
        key = asker.open(REQUEST, end=True)
        self.answerer[key] = self.pair.other(asker)
        self.flow()
        self.answerer[key].send_head(key, OK)
        self.sent[key] = self.got[key] = b""
        return key

    @rule(key=answers, data=st.binary(max_size=3000))
    def send(self, key: StreamKey, data: bytes) -> None:
        if key not in self.gone | self.finished:
            self.answerer[key].send(key, data)
            self.sent[key] += data

    @rule(key=answers, trailers=st.booleans())
    def finish(self, key: StreamKey, trailers: bool) -> None:
        if key not in self.gone | self.finished:
            self.answerer[key].finish(key, [("meshnode-done", "1")] if trailers else [])
            self.finished.add(key)

    @rule(key=consumes(answers), by_answerer=st.booleans())
    def cancel(self, key: StreamKey, by_answerer: bool) -> None:
        mux = self.answerer[key]
        (mux if by_answerer else self.pair.other(mux)).reset(key, 8)
        self.gone.add(key)

    @rule(key=answers)
    def pause(self, key: StreamKey) -> None:
        self.paused ^= {key}

    @rule(limit=st.integers(1, 5000), cut=st.integers(0, 50))
    def flow(self, limit: int = 64 * 1024, cut: int = 0) -> None:
        for mux in (self.pair.dialer, self.pair.listener):
            self.pair.carry(mux, limit, cut)
            self.read(self.pair.other(mux))

    def read(self, mux: Mux) -> None:
        for event in self.pair.take(mux):
            match event:
                case Data(key, data, flow):
                    self.got[key] += data
                    if key not in self.paused:
                        mux.credit(key, flow)
                case Ended(key) if self.answerer.get(key) is not mux:
                    self.ended.add(key)
                case Reset(key, _):
                    assert key in self.gone
                case Opened() | Head() | _:
                    pass

    @invariant()
    def what_is_unread_is_counted(self) -> None:
        for mux in (self.pair.dialer, self.pair.listener):
            unread = [stream.unread for stream in (*mux._table, *mux._unread._late.values())]
            assert mux.unread == sum(unread)
            assert min(unread, default=0) >= 0

    @invariant()
    def what_arrives_is_what_was_sent(self) -> None:
        for key, got in self.got.items():
            assert self.sent[key].startswith(got)

    def teardown(self) -> None:
        for _ in range(200):
            self.flow()
        for key, sent in self.sent.items():
            if key in self.gone | self.paused:
                continue
            assert self.got[key] == sent
            assert (key in self.ended) == (key in self.finished)
        if not self.paused:
            assert self.pair.dialer.queued == self.pair.listener.queued == 0


TestWalk = Walk.TestCase
TestWalk.settings = settings(deadline=None, max_examples=30, stateful_step_count=30)
