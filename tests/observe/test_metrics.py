"""What a scraper reads."""

from __future__ import annotations

from meshnode.observe.metrics import Metrics


def test_counts_and_gauges_are_on_the_page() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.ended("m", "studio", "ok")
    metrics.ended("m", "studio", "engine_failed")
    metrics.first_token("m", "studio", 0.3)
    metrics.served("relay", "ok")
    metrics.attempt()
    links = [3.0]
    metrics.gauge("meshnode_links", "Links.", lambda: links[0])
    page = metrics.render().decode()
    assert 'meshnode_requests_total{model="m",node="studio",outcome="ok"} 2.0' in page
    assert 'meshnode_requests_total{model="m",node="studio",outcome="engine_failed"} 1.0' in page
    assert 'meshnode_first_token_seconds_bucket{le="0.5",model="m",node="studio"} 1.0' in page
    assert 'meshnode_served_total{kind="relay",outcome="ok"} 1.0' in page
    assert "meshnode_links 3.0" in page
    links[0] = 1.0
    assert "meshnode_links 1.0" in metrics.render().decode()


def test_nodes_of_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.attempt()
    assert "meshnode_attempts_total 1.0" in one.render().decode()
    assert "meshnode_attempts_total 0.0" in other.render().decode()
