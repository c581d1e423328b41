"""Which LSN is safe to confirm.

The slot may forget everything before the flush LSN that it is sent, so what this module decides is what a
crash can lose. Nothing else in walvec makes that decision. The rules:

1. The flush LSN is `Ledger.saved`: a checkpoint that a target transaction has durably committed. It never
   goes back.
2. The checkpoint may move to a transaction's commit end (`next_lsn`) only together with the commit of the
   last action of that transaction and of every one before it, in every lane. A lane is one consumer of the
   stream, working at its own pace; the checkpoint is the least advanced of them.
3. A transaction without actions, and a keepalive outside a transaction, hold nothing that could be lost.
   They move `planned`, and the checkpoint follows once no lane has anything open before them.
4. A transaction is identified by its commit *end*. One transaction's end can equal the next one's commit
   start, and change LSNs are not ordered across transactions, so neither is ever compared.

Pure: no clock, no socket, no database.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from walvec_slots.lsn import Lsn


@dataclass(slots=True)
class Span:
    """A run of actions planned for one lane and not yet committed.

    `end` is the commit end of the newest transaction that is complete with this span and the ones before it.
    A span that stops inside a transaction keeps the end of the transaction before. `transactions` counts
    those that asked for something and are complete with this span.
    """

    end: Lsn
    transactions: int = 0

    def extend(self, end: Lsn, transactions: int) -> None:
        """Note that the span is complete through `end`, with more transactions."""
        self.end = end
        self.transactions += transactions


class Ledger:
    """What has been planned, applied and saved, lane by lane."""

    def __init__(self, checkpoint: Lsn, lanes: Mapping[str, Lsn]) -> None:
        """Start from the saved checkpoint.

        `lanes` says how far each lane got, which counts where it is past the checkpoint.
        """
        self.saved = checkpoint
        self.planned = checkpoint
        self._applied = {lane: max(lsn, checkpoint) for lane, lsn in lanes.items()}
        self._open: dict[str, deque[Span]] = {lane: deque() for lane in lanes}

    def open_span(self, lane: str) -> Span:
        """Begin a span behind all others of the lane.

        A lane that has none open is done through here.
        """
        self._applied[lane] = self.applied(lane)
        span = Span(self.planned)
        self._open[lane].append(span)
        return span

    def complete(self, end: Lsn, *, transactions: int = 0) -> None:
        """Note that the stream is planned through `end`.

        That is a commit's end, or a keepalive's position between two commits. The newest span of every lane
        reaches it too, because nothing of the lane's is planned after that span. An `end` behind `planned`
        is a replay and moves nothing. `transactions` counts those that asked for something.
        """
        if end <= self.planned:
            return
        self.planned = end
        for spans in self._open.values():
            if spans:
                spans[-1].extend(end, transactions)

    def applied(self, lane: str, *, finishing: int = 0) -> Lsn:
        """Return how far the lane is done once its `finishing` oldest spans are committed."""
        spans = self._open[lane]
        if len(spans) <= finishing:
            return max(self._applied[lane], self.planned)
        if finishing == 0:
            return self._applied[lane]
        return max(self._applied[lane], spans[finishing - 1].end)

    def transactions(self, lane: str) -> int:
        """Return how many transactions are complete with the lane's oldest span."""
        return self._open[lane][0].transactions

    def checkpoint(self, lane: str | None = None, *, finishing: int = 0) -> Lsn:
        """Return the LSN that a target transaction may save.

        `finishing` is how many of the oldest spans of `lane` that transaction commits.
        """
        ends = (self.applied(name, finishing=finishing if name == lane else 0) for name in self._open)
        return max(self.saved, min(ends, default=self.planned))

    def finish(self, lane: str, count: int) -> None:
        """Note that the lane's `count` oldest spans are committed in the target."""
        self._applied[lane] = self.applied(lane, finishing=count)
        for _ in range(count):
            self._open[lane].popleft()

    def save(self, checkpoint: Lsn) -> None:
        """Note that a checkpoint is durable. From here on the slot may be sent it."""
        self.saved = max(self.saved, checkpoint)

    def abandon_from(self, lane: str, span: Span) -> None:
        """Keep the lane from getting past `span`, because the rest will not be committed.

        The spans behind it are forgotten. The checkpoint stays before it until the stream starts again.
        """
        spans = self._open[lane]
        while spans[-1] is not span:
            spans.pop()

    @property
    def idle(self) -> bool:
        """Whether all that is planned is committed, so that idle progress may be saved."""
        return not any(self._open.values())
