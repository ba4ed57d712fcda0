from __future__ import annotations

import numpy as np
import torch

from watermark.embedding.repeats import ContextMemory, context_keys, first_occurrences


def attention(rows: list[int], slots: int = 4) -> torch.Tensor:
    """(T, 1, slots): one-hot attention, so contexts are alike exactly when their numbers are."""
    return torch.nn.functional.one_hot(torch.tensor(rows), slots).float().unsqueeze(1)


def different(length: int, texts: int = 1) -> torch.Tensor:
    """Token ids (texts, length) none of which recurs."""
    return torch.arange(length).expand(texts, -1)


def test_a_context_counts_once():
    contexts = attention([0, 1, 0, 2, 1, 3]).unsqueeze(0)
    new = first_occurrences(contexts, different(6), torch.ones(1, 6, dtype=torch.bool), 0.9)
    assert new.tolist() == [[True, True, False, True, False, True]]


def test_padding_is_neither_counted_nor_remembered():
    contexts = attention([0, 1, 1]).unsqueeze(0)
    new = first_occurrences(contexts, different(3), torch.tensor([[True, False, True]]), 0.9)
    assert new.tolist() == [[True, False, True]]


def test_what_was_skipped_is_not_remembered():
    """a ~ b and b ~ c but not a ~ c: b is a repetition of a and c is new."""
    angle = torch.tensor([0.0, 0.4, 0.8])
    contexts = torch.stack([angle.cos(), angle.sin()], dim=1).view(1, 3, 1, 2)
    assert first_occurrences(contexts, different(3), torch.ones(1, 3, dtype=torch.bool), 0.9).tolist() == [[True, False, True]]


def test_keys_agree_where_the_two_tokens_before_agree():
    keys = context_keys(torch.tensor([[7, 8, 9, 7, 8, 5, 8, 7]]))[0].tolist()
    assert [[t for t in range(8) if keys[t] == key] for key in keys] == [[0], [1], [2, 5], [3], [4], [2, 5], [6], [7]]
    assert [len(context_keys(torch.zeros(2, length, dtype=torch.long))[0]) for length in (0, 1, 2, 3)] == [0, 1, 2, 3]


def test_the_same_two_tokens_are_a_repeated_context():
    """However different the attention: the third and the sixth position both follow the tokens 7, 8."""
    contexts = attention([0, 1, 2, 3, 4, 5], slots=6).unsqueeze(0)
    ids = torch.tensor([[7, 8, 9, 7, 8, 5]])
    assert first_occurrences(contexts, ids, torch.ones(1, 6, dtype=torch.bool), 0.9).tolist() == [[True] * 5 + [False]]
    # Position 2 was not marked, so position 5 repeats nothing.
    valid = torch.tensor([[True, True, False, True, True, True]])
    assert first_occurrences(contexts, ids, valid, 0.9).tolist() == valid.tolist()


def test_memory_while_writing_agrees_with_the_finished_text():
    generator = torch.Generator().manual_seed(0)
    contexts = torch.softmax(3 * torch.randn(2, 60, 2, 3, generator=generator), dim=-1)
    ids = torch.randint(0, 6, (2, 60), generator=generator)
    eligible = torch.rand(2, 60, generator=generator) < 0.8
    for threshold in (0.9, 1.1):  # above 1 the tokens alone decide
        memory, stepwise = ContextMemory(2, 60, 6), []
        for t in range(60):
            stepwise.append(memory.check_and_add(contexts[:, t].flatten(1).numpy(), eligible[:, t].numpy(), threshold))
            memory.record(ids[:, t].numpy())
        new = torch.from_numpy(np.stack(stepwise, axis=1))
        assert torch.equal(new, first_occurrences(contexts, ids, eligible, threshold))
        assert 0 < new.sum() < eligible.sum(), "some contexts must repeat, or the test shows nothing"


def test_blocks_look_back_across_their_border():
    contexts = attention([0, 1, 2, 3, 3, 0, 1, 2]).unsqueeze(0)
    valid = torch.ones(1, 8, dtype=torch.bool)
    assert first_occurrences(contexts, different(8), valid, 0.9, window=4).tolist() == [[True] * 4 + [False] * 4]


def test_a_token_drawn_in_a_similar_context_is_known_as_such():
    """Contexts 0 and 2 are alike, 1 is not; what was drawn after 0 and 1 is asked for at 2."""
    angles = torch.tensor([0.0, 1.4, 0.3])
    memory = ContextMemory(1, 3, 2)
    drawn = [5, 6]
    for t, angle in enumerate(angles):
        memory.check_and_add(torch.stack([angle.cos(), angle.sin()]).view(1, 2).numpy(), np.array([True]), 0.99)
        known = memory.drawn_before(np.array([[4, 5, 6]]), 0.9)
        if t < 2:
            assert not known.any()
            memory.record(np.array([drawn[t]]))
    assert known.tolist() == [[False, True, False]]


def test_contexts_that_were_not_marked_leave_no_trace():
    memory = ContextMemory(1, 2, 4)
    context = attention([0])[:1].flatten(1).numpy()
    memory.check_and_add(context, np.array([False]), 0.9)
    memory.record(np.array([3]))
    assert memory.check_and_add(context, np.array([True]), 0.9).tolist() == [True]
    assert not memory.drawn_before(np.array([[3]]), 0.1).any()
