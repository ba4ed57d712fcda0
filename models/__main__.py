"""`python -m models [NAME]`: make a base model ready (convert or download it), so that the first start is not the slow one."""

from __future__ import annotations

import argparse
import sys

from models.registry import DEFAULT_BASE_MODEL, prepare
from watermark.errors import CountersignError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    parser.add_argument("name", nargs="?", default=DEFAULT_BASE_MODEL, help="short name, folder or Hugging Face id (default: %(default)s)")
    try:
        print(*(folder for folder in prepare(parser.parse_args().name) if folder), sep="\n")
    except CountersignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
