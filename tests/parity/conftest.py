"""Keep a ledger of measured errors, printed at the end of a parity run."""

from __future__ import annotations

import pytest

from tests.support.parity.measure import Ledger

_LEDGER = Ledger()


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    """Provide the ledger that compares stages with the official ones and records errors."""
    return _LEDGER


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _LEDGER.worst:
        return
    terminalreporter.section("largest errors against the official code")
    for stage, (worst, limit, count) in sorted(_LEDGER.worst.items()):
        terminalreporter.write_line(f"{stage:44s} {worst:.1e} (limit {limit:.0e}, {count} times)")
