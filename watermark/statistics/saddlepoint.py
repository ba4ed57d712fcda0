"""Tails of Rademacher sums, estimated: to choose among many what is then tested exactly (`watermark.statistics.rademacher`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEPS = 12
"""Newton's; the last ones change nothing."""
FARTHEST = 0.99
"""Share of the largest possible sum beyond which a statistic is taken for that."""


def log_tails(evidence: NDArray[np.floating], statistics: NDArray[np.floating]) -> NDArray[np.float64]:
    """About ln P(Σ s_i·e_i ≥ S) for each row of evidence (w, n), not all zero, and statistic S > 0 (w,): within 0.2 beyond z = 3.

    The saddlepoint approximation K(θ) - θS - ln(θ·√(2πK''(θ))), K(θ) = Σ ln cosh(θ·e_i) and K'(θ) = S (Daniels, "Saddlepoint
    approximations in statistics", Ann. Math. Stat. 25:4, 1954). K' is concave, so that Newton's iteration from the left never leaves it.
    """
    norms = np.linalg.norm(evidence, axis=1, keepdims=True)
    e = evidence / norms
    z = np.clip(statistics / norms[:, 0], 1e-3, FARTHEST * np.abs(e).sum(axis=1))
    theta = z.copy()
    for _ in range(STEPS):
        slopes = np.tanh(theta[:, None] * e)
        variance = np.einsum("wn,wn->w", np.square(e), 1.0 - np.square(slopes))
        theta += (z - np.einsum("wn,wn->w", e, slopes)) / np.maximum(variance, 1e-12)
    scaled = np.abs(theta[:, None] * e)
    generating = (scaled + np.log1p(np.exp(-2.0 * scaled)) - np.log(2.0)).sum(axis=1)
    return generating - theta * z - np.log(theta * np.sqrt(2.0 * np.pi * variance))
