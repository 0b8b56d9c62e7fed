from hypothesis import given
from hypothesis import strategies as st

from restante_server.services.acknowledgement import Acknowledgement, merge

acknowledgements = st.builds(
    lambda sequence, exceptions: Acknowledgement(sequence, frozenset(e for e in exceptions if e <= sequence)),
    st.integers(0, 20),
    st.sets(st.integers(1, 20)),
)


def test_first_stands_alone() -> None:
    only = Acknowledgement(3, frozenset({2}))
    assert merge(None, only) is only


@given(acknowledgements, acknowledgements)
def test_a_merged_one_says_nothing_that_neither_said(first: Acknowledgement, second: Acknowledgement) -> None:
    merged = merge(first, second)
    for sequence in range(1, 21):
        if merged.covers(sequence):
            assert first.covers(sequence) or second.covers(sequence)


@given(acknowledgements, acknowledgements)
def test_what_the_later_one_says_is_said(first: Acknowledgement, second: Acknowledgement) -> None:
    merged = merge(first, second)
    for sequence in range(1, 21):
        if second.covers(sequence):
            assert merged.covers(sequence)


@given(acknowledgements, acknowledgements)
def test_what_only_the_earlier_one_says_is_lost_only_if_the_later_one_excepts_it(
    first: Acknowledgement, second: Acknowledgement
) -> None:
    merged = merge(first, second)
    for sequence in range(1, 21):
        if first.covers(sequence) and not merged.covers(sequence):
            assert sequence in second.exceptions
