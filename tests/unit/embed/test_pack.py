from hypothesis import example, given
from hypothesis import strategies as st

from walvec.embed.pack import (
    BYTES_PER_TOKEN,
    TRY_AFTER,
    RequestBudget,
    RequestLimits,
    cut,
    estimate_tokens,
    pack,
    take,
)

TOKENS = st.lists(st.integers(1, 50), max_size=60)
LIMITS = st.builds(RequestLimits, st.integers(1, 20), st.integers(1, 120))


@given(TOKENS, LIMITS)
@example([], RequestLimits(1, 1))
def test_every_text_is_in_one_request_in_order(tokens: list[int], limits: RequestLimits) -> None:
    """Requests follow each other without gap or overlap."""
    assert [position for request in pack(tokens, limits) for position in request] == list(range(len(tokens)))


@given(TOKENS, LIMITS)
def test_requests_keep_the_limits(tokens: list[int], limits: RequestLimits) -> None:
    """A request keeps the limit of tokens too, unless a single text exceeds it."""
    for request in pack(tokens, limits):
        assert 1 <= len(request) <= limits.inputs
        assert len(request) == 1 or sum(tokens[position] for position in request) <= limits.tokens


@given(TOKENS, LIMITS)
def test_requests_are_full(tokens: list[int], limits: RequestLimits) -> None:
    """The next text would not have fitted into the request."""
    for request in pack(tokens, limits):
        if request.stop < len(tokens) and len(request) < limits.inputs:
            assert sum(tokens[request.start : request.stop + 1]) > limits.tokens


@given(TOKENS.filter(bool), LIMITS, st.data())
def test_packing_from_anywhere_is_taking(
    tokens: list[int], limits: RequestLimits, data: st.DataObject
) -> None:
    """`pack` begins where it should, with the request that `take` returns."""
    start = data.draw(st.integers(0, len(tokens) - 1))
    assert next(pack(tokens, limits, start)) == take(tokens, start, limits)


@given(st.integers(0, 100), st.integers(2, 100), st.integers(2, 10))
def test_parts_are_the_whole(start: int, length: int, parts: int) -> None:
    """Parts are of about the same length, and no text is lost between them."""
    cuts = cut(range(start, start + length), parts)
    assert len(cuts) == min(parts, length)
    assert [position for part in cuts for position in part] == list(range(start, start + length))
    assert max(map(len, cuts)) - min(map(len, cuts)) <= 1 <= min(map(len, cuts))


@given(st.text(max_size=200))
def test_estimates_count_bytes(text: str) -> None:
    """The estimate is a third of the UTF-8 bytes, and never 0."""
    assert estimate_tokens(text) == len(text.encode()) // BYTES_PER_TOKEN + 1


def test_a_named_limit_of_inputs_is_kept_at_once() -> None:
    """The limit that the service named applies to the next request."""
    budget = RequestBudget(inputs=128, tokens=1000)
    budget.too_many_inputs(128, 50)
    assert budget.limits == RequestLimits(50, 1000)


def test_an_unnamed_limit_of_inputs_is_searched_by_halves() -> None:
    """The next request holds half of the refused one, and at least one input."""
    budget = RequestBudget(inputs=128, tokens=1000)
    budget.too_many_inputs(100, None)
    assert budget.limits.inputs == 50
    budget.too_many_inputs(1, None)
    assert budget.limits.inputs == 1


@given(st.integers(1, 200), st.none() | st.integers(0, 10_000))
def test_a_refusal_only_lowers_limits_of_inputs(sent: int, limit: int | None) -> None:
    """No number in a refusal raises the limit above the configured one."""
    budget = RequestBudget(inputs=64, tokens=1000)
    budget.too_many_inputs(sent, limit)
    assert 1 <= budget.limits.inputs <= 64


def test_a_named_limit_of_tokens_corrects_limit_and_estimate() -> None:
    """The service's count of tokens shows how far off the estimate is."""
    budget = RequestBudget(inputs=128, tokens=20_000)
    budget.too_many_tokens(estimated=9_000, limit=16_384, counted=18_000)
    assert budget.limits == RequestLimits(128, 8_192)


def test_an_unnamed_limit_of_tokens_is_a_quarter_below_what_was_refused() -> None:
    """The limit drops by a quarter with each refusal."""
    budget = RequestBudget(inputs=128, tokens=16_000)
    budget.too_many_tokens(12_000, None, None)
    assert budget.limits.tokens == 9_000
    budget.too_many_tokens(9_000, None, None)
    assert budget.limits.tokens == 6_750


@given(st.lists(st.tuples(st.integers(1, 50_000), st.none() | st.integers(-5, 500_000))))
def test_usage_never_makes_limits_absurd(answers: list[tuple[int, int | None]]) -> None:
    """A service that counts oddly neither stops the work nor gets everything at once."""
    budget = RequestBudget(inputs=128, tokens=16_000)
    for estimated, counted in answers:
        budget.answered(estimated, counted)
    assert 2_000 <= budget.limits.tokens <= 26_667


def test_dense_text_shrinks_requests_at_once_and_light_text_lets_them_grow_slowly() -> None:
    """One dense answer about halves the next request; the way back takes many answers."""
    budget = RequestBudget(inputs=128, tokens=16_000)
    budget.answered(1_000, 2_000)
    after_dense = budget.limits.tokens
    budget.answered(1_000, 800)
    after_light = budget.limits.tokens
    for _ in range(200):
        budget.answered(1_000, 800)
    assert after_dense < 8_000
    assert after_dense < after_light < 8_000
    assert budget.limits.tokens > 17_000


def answers_until_raised(budget: RequestBudget) -> int:
    """Return how many answers it takes until the limits change."""
    before, answers = budget.limits, 0
    while budget.limits == before:
        budget.answered(1_000, None)
        answers += 1
    return answers


def test_learned_limits_are_tried_higher_again_slowly() -> None:
    """A learned limit grows by a quarter after many answers, up to the configured one."""
    budget = RequestBudget(inputs=128, tokens=16_000)
    budget.too_many_inputs(128, 16)
    assert answers_until_raised(budget) == TRY_AFTER
    assert budget.limits == RequestLimits(20, 16_000)
    for _ in range(100 * TRY_AFTER):
        budget.answered(1_000, None)
    assert budget.limits == RequestLimits(128, 16_000)


def test_a_limit_that_holds_is_tried_ever_more_rarely() -> None:
    """Each refused raise doubles the answers until the next one."""
    budget = RequestBudget(inputs=128, tokens=16_000)
    budget.too_many_inputs(128, 16)
    for times in (1, 2, 4, 8):
        assert answers_until_raised(budget) == times * TRY_AFTER
        budget.too_many_inputs(20, 16)


def test_what_one_text_taught_is_unlearned() -> None:
    """The limits return to what they were before a single oversized text."""
    budget = RequestBudget(inputs=128, tokens=16_000)
    budget.too_many_inputs(128, 64)
    before = budget.lesson
    budget.too_many_tokens(12_000, 512, 604)
    budget.too_many_inputs(64, None)
    budget.unlearn(before)
    assert budget.limits == RequestLimits(64, 16_000)
