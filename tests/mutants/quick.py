"""A pytest plugin for mutants: hypothesis stops at the first example that fails, instead of looking for a shorter one.

Who looks at a mutant wants to know whether it is noticed; shrinking can take a hundred times as long.
"""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Profiles hold for every test that does not say otherwise."""
    # Here, so that pytest has rewritten its assertions by then.
    from hypothesis import Phase, settings

    settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
    settings.load_profile("unshrunk")
