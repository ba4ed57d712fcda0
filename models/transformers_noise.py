"""transformers talks on stderr while it loads; here its bars and notes are off, and what was set before comes back."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from unittest.mock import patch

from transformers import modeling_gguf_pytorch_utils as gguf_reader
from transformers.utils import logging


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # The GGUF reader has a bar of its own that no setting reaches.
        with warnings.catch_warnings(), patch.object(gguf_reader, "tqdm", lambda tensors, **_: tensors, create=True):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
