"""What a node says inside a stream is of the client's dialect, and ends it where it is an error."""

from __future__ import annotations

from meshnode.dialects import CHAT, KEEPALIVE, SoundStream
from meshnode.dialects.speech import Speech, speech_of
from meshnode.errors import PeerFailed


def test_openai_is_kept_alive_by_comments_and_ends_with_an_error_event() -> None:
    speech = speech_of(CHAT)
    assert speech.keepalive == KEEPALIVE
    stream = SoundStream()
    stream.feed(speech.error(PeerFailed("lost")))
    assert stream.end().failed


def test_who_waits_in_a_queue_is_told_where_in_dialects_that_have_comments() -> None:
    openai = speech_of(CHAT)
    assert (openai.sign(3), openai.sign(0)) == (b": queued 3\n\n", KEEPALIVE)
    ping = Speech(b"event: ping\n\n", openai.error)
    assert ping.sign(3) == ping.sign(0) == b"event: ping\n\n"
    assert Speech(None, openai.error).sign(3) is None
