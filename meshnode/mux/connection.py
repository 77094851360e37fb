"""h2's connection, tuned for links: quiet, cheap per DATA frame, and forgiving to what was in flight at a reset.

Everything here narrows or skips work of h2 without changing what is on the wire. Not for both directions (mux.py).
"""

from __future__ import annotations

from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, RstStreamFrame, SettingsFrame

from meshnode.config.mesh import MeshSection
from meshnode.mux.encoder import BlockEncoder
from meshnode.mux.headers import MAX_LIST_BYTES

LAST_STREAM_ID = 2**31 - 1
"""In a GOAWAY: the streams that run may finish (RFC 9113 §6.8)."""

_HARD_STREAMS = 2
"""h2 ends the connection over a stream too many; a Mux refuses the stream. So h2's limit is this many times ours."""

_SETTINGS = frozenset(SettingCodes)
"""Others are ignored (RFC 9113 §6.5.2); h2 would keep each of 65,536, at half a kilobyte."""


class Connection(H2Connection):
    """One side's requests and the other side's answers. `client`: the requests are this end's.

    `stray_bytes` is what came, since it was last set to 0, for streams that are over.
    """

    DEFAULT_MAX_HEADER_LIST_SIZE = MAX_LIST_BYTES

    MAX_CLOSED_STREAMS = 4096
    # How they ended is remembered for frames still in flight. h2's own number is 65,536, 10 MB for a link of weeks.

    def __init__(self, *, client: bool, section: MeshSection) -> None:
        # Headers are checked in headers.py, in a tenth of the time.
        super().__init__(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self.stray_bytes = 0
        self.encoder = cast(Encoder, BlockEncoder())
        self.local_settings = Settings(
            client=client,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: _HARD_STREAMS * section.streams,
                SettingCodes.INITIAL_WINDOW_SIZE: section.stream_window_bytes,
                SettingCodes.MAX_HEADER_LIST_SIZE: self.DEFAULT_MAX_HEADER_LIST_SIZE,
            },
        )
        self.initiate_connection()
        # The default 65,535 would let one unread stream stop all others.
        self.increment_flow_control_window(max(1, section.link_window_bytes - self.inbound_flow_control_window))

    @property
    def has_data(self) -> bool:
        """Whether `data_to_send` has anything."""
        return bool(self._data_to_send)

    @property
    def unsent_bytes(self) -> int:
        """What `data_to_send` has."""
        return len(self._data_to_send)

    def local_flow_control_window(self, stream_id: int) -> int:
        """Bytes that may be sent on a stream now. Asked three times for each chunk, so without the base class's search
        among streams that are over."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return super().local_flow_control_window(stream_id)
        window, link_window = stream.outbound_flow_control_window, self.outbound_flow_control_window
        return window if window < link_window else link_window

    def go_away(self) -> None:
        """Ask for no new streams. h2's own close_connection would end those that run."""
        frame = GoAwayFrame(stream_id=0, last_stream_id=LAST_STREAM_ID, error_code=0)
        self._prepare_for_sending([frame])

    def _receive_frame(self, frame: Frame) -> list[Event]:
        # The base class makes a repr of each frame for a log nobody reads, 4 % of a link's time at small chunks.
        if frame.__class__ is DataFrame and frame.stream_id in self.streams:
            frames, events = self._receive_data_frame(frame)
            self._prepare_for_sending(frames)
            return events
        if frame.stream_id and frame.__class__ is not DataFrame and self._stream_is_closed_by_reset(frame.stream_id):
            # In flight when the stream was reset: read (HPACK needs every block), not answered. See below.
            if (stream := self.streams.get(frame.stream_id)) is not None and stream.closed:
                # As h2 does sooner or later: a stream that it still has ends the connection over a late 1xx head.
                self._closed_streams[frame.stream_id] = self.streams.pop(frame.stream_id).closed_by
            sent = len(self._data_to_send)
            events = super()._receive_frame(frame)
            del self._data_to_send[sent:]
            return events
        return super()._receive_frame(frame)

    def _handle_data_on_closed_stream(
        self, events: list[Event], exc: StreamClosedError, frame: DataFrame
    ) -> tuple[list[Frame], list[Event]]:
        # Frames that were in flight when this end reset the stream: ignored (RFC 9113 §5.1). The base class answers
        # each with another RST_STREAM, thousands at small chunks, and the peer's reset budget would end the link.
        self.stray_bytes += frame.flow_controlled_length
        frames, found = super()._handle_data_on_closed_stream(events, exc, frame)
        if not exc._events:
            frames = [f for f in frames if not isinstance(f, RstStreamFrame)]
        return frames, found

    def _receive_settings_frame(self, frame: SettingsFrame) -> tuple[list[Frame], list[Event]]:
        frame.settings = {code: value for code, value in frame.settings.items() if code in _SETTINGS}
        return super()._receive_settings_frame(frame)
