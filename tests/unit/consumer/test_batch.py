from hypothesis import example, given
from hypothesis import strategies as st

from consumer.batch import BYTES_PER_TOKEN, Budget, Limits, estimate_tokens, halve, pack, take

TOKENS = st.lists(st.integers(1, 50), max_size=60)
LIMITS = st.builds(Limits, st.integers(1, 20), st.integers(1, 120))


@given(TOKENS, LIMITS)
@example([], Limits(1, 1))
def test_every_text_is_in_one_request_in_order(tokens: list[int], limits: Limits) -> None:
    """Requests follow each other without gap or overlap."""
    assert [position for request in pack(tokens, limits) for position in request] == list(range(len(tokens)))


@given(TOKENS, LIMITS)
def test_requests_keep_the_limits(tokens: list[int], limits: Limits) -> None:
    """Inputs always; tokens unless a single text is too long by itself."""
    for request in pack(tokens, limits):
        assert 1 <= len(request) <= limits.inputs
        assert len(request) == 1 or sum(tokens[position] for position in request) <= limits.tokens


@given(TOKENS, LIMITS)
def test_requests_are_full(tokens: list[int], limits: Limits) -> None:
    """The next text would not have fitted."""
    for request in pack(tokens, limits):
        if request.stop < len(tokens) and len(request) < limits.inputs:
            assert sum(tokens[request.start : request.stop + 1]) > limits.tokens


@given(TOKENS.filter(bool), LIMITS, st.data())
def test_packing_from_anywhere_is_taking(tokens: list[int], limits: Limits, data: st.DataObject) -> None:
    """`pack` begins where it is told, with what `take` would take."""
    start = data.draw(st.integers(0, len(tokens) - 1))
    assert next(pack(tokens, limits, start)) == take(tokens, start, limits)


@given(st.integers(0, 100), st.integers(2, 100))
def test_halves_are_the_whole(start: int, length: int) -> None:
    """Both halves hold something, and nothing is lost between them."""
    one, two = halve(range(start, start + length))
    assert one
    assert two
    assert [*one, *two] == list(range(start, start + length))
    assert abs(len(one) - len(two)) <= 1


@given(st.text(max_size=200))
def test_estimates_count_bytes(text: str) -> None:
    """A third of the UTF-8 bytes, and never nothing."""
    assert estimate_tokens(text) == len(text.encode()) // BYTES_PER_TOKEN + 1


def test_a_named_limit_of_inputs_is_kept_at_once() -> None:
    """The service said how many."""
    budget = Budget(inputs=128, tokens=1000)
    budget.too_many_inputs(128, 50)
    assert budget.limits == Limits(50, 1000)


def test_an_unnamed_limit_of_inputs_is_searched_by_halves() -> None:
    """Half of what was refused, and never none."""
    budget = Budget(inputs=128, tokens=1000)
    budget.too_many_inputs(100, None)
    assert budget.limits.inputs == 50
    budget.too_many_inputs(1, None)
    assert budget.limits.inputs == 1


@given(st.integers(1, 200), st.none() | st.integers(0, 10_000))
def test_limits_of_inputs_are_only_lowered(sent: int, limit: int | None) -> None:
    """Whatever number a service's wording seemed to name."""
    budget = Budget(inputs=64, tokens=1000)
    budget.too_many_inputs(sent, limit)
    assert 1 <= budget.limits.inputs <= 64


def test_a_named_limit_of_tokens_corrects_limit_and_estimate() -> None:
    """What was counted tells how far off the estimate is."""
    budget = Budget(inputs=128, tokens=20_000)
    budget.too_many_tokens(estimated=9_000, limit=16_384, counted=18_000)
    assert budget.limits == Limits(128, 8_192)


def test_an_unnamed_limit_of_tokens_is_a_quarter_below_what_was_refused() -> None:
    """And again, until it fits."""
    budget = Budget(inputs=128, tokens=16_000)
    budget.too_many_tokens(12_000, None, None)
    assert budget.limits.tokens == 9_000
    budget.too_many_tokens(9_000, None, None)
    assert budget.limits.tokens == 6_750


@given(st.lists(st.tuples(st.integers(1, 50_000), st.none() | st.integers(-5, 500_000))))
def test_usage_never_makes_limits_absurd(answers: list[tuple[int, int | None]]) -> None:
    """A service that counts oddly neither stops the work nor sends everything at once."""
    budget = Budget(inputs=128, tokens=16_000)
    for estimated, counted in answers:
        budget.answered(estimated, counted)
    assert 2_000 <= budget.limits.tokens <= 26_667


def test_dense_text_shrinks_requests_at_once_and_light_text_lets_them_grow_slowly() -> None:
    """One answer of twice the estimate halves the next request, about; the way back takes many."""
    budget = Budget(inputs=128, tokens=16_000)
    budget.answered(1_000, 2_000)
    after_dense = budget.limits.tokens
    budget.answered(1_000, 800)
    after_light = budget.limits.tokens
    for _ in range(200):
        budget.answered(1_000, 800)
    assert after_dense < 8_000
    assert after_dense < after_light < 8_000
    assert budget.limits.tokens > 17_000
