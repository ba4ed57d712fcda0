"""Keys that are checked when they are made: what `countersign keys` and the first start of the service have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from watermark.checkpoint_folder import read_config, weights_digest
from watermark.codebook.keys import IssuerKey, KeyRing

if TYPE_CHECKING:
    from watermark.calibration.file import Calibration


@dataclass(frozen=True)
class KeyCheck:
    """What one checkpoint knows about keys. Reading it takes no language model."""

    nonce_bits: int
    calibration: Calibration | None

    @classmethod
    def of(cls, checkpoint: Path) -> KeyCheck:
        """Raises CheckpointError."""
        from watermark.calibration.file import load_calibration  # scipy: only where a key is checked

        config = read_config(checkpoint)
        return cls(config.nonce_bits, load_calibration(checkpoint, weights_digest(checkpoint), config.n))

    @property
    def texts(self) -> int:
        """Calibration texts that a key is checked against; 0 without a calibration."""
        return 0 if self.calibration is None else len(set(self.calibration.sample.text.tolist()))

    @property
    def words(self) -> str:
        return f"checked against {self.texts:,} calibration texts" if self.texts else "not checked: this checkpoint has no calibration"

    def sound(self, key: IssuerKey) -> bool:
        """Whether unmarked texts do not score too high with this key; every key is, where there is no calibration."""
        return self.calibration is None or self.calibration.health(key, self.nonce_bits).ok

    def create(self, ring: KeyRing, name: str, payload_bits: int = 0) -> tuple[IssuerKey, int]:
        """A new key that the calibration, where there is one, finds sound, and how many secrets were drawn for it.

        Raises what `KeyRing.create` raises.
        """
        draws = 0

        def sound(key: IssuerKey) -> bool:
            nonlocal draws
            draws += 1
            return self.sound(key)

        return ring.create(name, payload_bits, sound), draws
