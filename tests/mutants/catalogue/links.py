"""What one peer, or one stranger, can make this node do (mux and net)."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        rule="handshakes that have begun and not ended are bounded",
        file="net/turnstile.py",
        text="if self._half_open.total() >= self._half_open_most:",
        instead="if False:",
        tests=("tests/net/test_turnstile.py", "tests/net/test_listen.py"),
    ),
    Mutant(
        rule="what a reader takes gives its sender credit again",
        file="mux/mux.py",
        text="stream.half.connection.increment_flow_control_window(stream.uncredited, stream.id)",
        instead="pass",
        tests=("tests/mux/test_mux.py",),
    ),
    Mutant(
        rule="streams opened and cancelled without end cost the link",
        file="mux/incoming.py",
        text="if not half.mine and now - stream.opened_at < RAPID_S:",
        instead="if False:",
        tests=("tests/mux/test_mux.py", "tests/mux/test_floods.py"),
    ),
    Mutant(
        rule="one neighbour that ends no handshake of a tunnel keeps nobody else out",
        file="mesh/threshold.py",
        text="many = many or self._half_open[neighbour] >= max(1, most // SHARE)",
        instead="pass",
        tests=("tests/mesh/test_threshold.py",),
    ),
    Mutant(
        rule="tunnels of one origin are counted again when the handshake has shown whose it is",
        file="mesh/tunnels.py",
        text="if (reason := self._threshold.crowded(peer)) is not None:",
        instead="if (reason := None) is not None:",
        tests=("tests/mesh/test_tunnels.py",),
    ),
    Mutant(
        rule="of two tunnels that were opened at once both ends keep the same",
        file="mesh/tunnels.py",
        text="known is None or (life.opened == lower_opens and known.opened != lower_opens)",
        instead="known is None",
        tests=("tests/mesh/test_tunnels.py",),
    ),
)
