from __future__ import annotations

import pytest

from minivault.engine.native.sequence import TRANSITIONS, Event, IllegalTransition, Sequence, State
from tests.engine.fakes import params


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_takes_the_steps_of_the_table_and_no_others(state: State, event: Event) -> None:
    sequence = Sequence(0, [1], params())
    sequence.state = state
    if event in TRANSITIONS[state]:
        sequence.advance(event)
        assert sequence.state is TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalTransition, match=rf"{state.name} cannot take the event {event.name}"):
            sequence.advance(event)
        assert sequence.state is state


def test_every_live_state_can_be_cancelled_and_the_finished_one_is_final() -> None:
    assert set(TRANSITIONS) == set(State)
    assert [state for state in State if Event.CANCEL not in TRANSITIONS[state]] == [State.FINISHED]
    assert TRANSITIONS[State.FINISHED] == {}


def test_ends_with_the_end_of_sequence_and_with_stop_ids() -> None:
    sequence = Sequence(0, [1], params(stop_token_ids=(9,)), eos_token_ids=(3, 4))
    assert [token_id for token_id in range(12) if sequence.ends_with(token_id)] == [3, 4, 9]


def test_ignored_end_of_sequence_leaves_the_stop_ids() -> None:
    sequence = Sequence(0, [1], params(ignore_eos=True, stop_token_ids=(9,)), eos_token_ids=(3,))
    assert not sequence.ends_with(3)
    assert sequence.ends_with(9)


def test_nothing_ends_before_min_tokens() -> None:
    sequence = Sequence(0, [1, 2], params(min_tokens=2), eos_token_ids=(3,))
    sequence.token_ids.append(5)
    assert not sequence.ends_with(3)
    sequence.token_ids.append(5)
    assert sequence.ends_with(3)


def test_counts_what_is_prompt_what_is_generated_and_what_is_still_to_run() -> None:
    sequence = Sequence(0, [1, 2, 3], params())
    sequence.token_ids += [4, 5]
    sequence.num_computed = 3
    assert (sequence.prompt_length, sequence.num_generated, sequence.num_uncomputed) == (3, 2, 2)
