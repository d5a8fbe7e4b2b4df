"""The finding of a check: one plain sentence and its severity."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """`error`: training will fail; `warning`: look at it; `note`: good to know."""

    severity: Severity
    sentence: str


def worst_first(findings: list[Finding]) -> list[Finding]:
    """In the order of SEVERITIES, otherwise as found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
