"""The configuration table of the README, from the settings themselves: `python -m service.settings_table README.md` rewrites it there."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.settings import Settings

BEGIN, END = "<!-- settings: written by python -m service.settings_table README.md -->", "<!-- end of settings -->"


def table() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `COUNTERSIGN_{name.upper()}` | {_default(field)} | {field.description} |")
    return "\n".join(rows)


def rewritten(text: str) -> str:
    """`text` with the table between its markers made anew. Raises ValueError without the markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"The text has no {BEGIN} … {END}.")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _default(field: FieldInfo) -> str:
    assert field.default is not PydanticUndefined
    return "" if field.default is None else f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
