"""The operators' API of dead letters: look through them, re-drive or discard them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StrictBool, model_validator

from service.admin.bodies import Reason, handle_invalid, read_body
from service.admin.problems import problem
from service.block import Receipt, Submission
from service.dead_letter_store import MOST, DeadLetterStore, Selection, Status
from service.dead_letters import LetterId
from service.errors import PipelineFailed
from service.redrive import Outcome, Redriver

log = logging.getLogger(__name__)


def _letter_id(value: object) -> LetterId:
    if not isinstance(value, str):
        raise ValueError('expected text such as "1234.17"')  # noqa: TRY004 - pydantic's own protocol
    return LetterId.parse(value)


Id = Annotated[LetterId, PlainValidator(_letter_id)]


class Page(NamedTuple):
    """Where the next request about all letters goes on, and the last letter that it is about.

    Written ``1234.17..2001.5``: those that come meanwhile, as of events that fail again, are not
    meant.
    """

    after: LetterId
    upto: LetterId | None = None

    @classmethod
    def parse(cls, value: object) -> Page:
        """Return the page written as ``value``; raises ValueError."""
        if not isinstance(value, str):
            return cls(_letter_id(value))
        after, _, upto = value.partition("..")
        return cls(_letter_id(after), _letter_id(upto) if upto else None)

    def __str__(self) -> str:
        return f"{self.after}..{self.upto}"


class Query(BaseModel):
    """What a list may be asked for."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    middleware: str | None = None
    source: str | None = None
    after: Id | None = None
    limit: int = Field(100, ge=1, le=MOST)


class Decision(BaseModel):
    """Which letters a decision is about: those of ``offsets``, or all that wait, from the oldest.

    All are those that are there at the first request. At most ``MOST`` at once; ``next`` of the
    answer is then the ``after`` of the next request.
    """

    model_config = ConfigDict(extra="forbid")

    offsets: list[Id] = Field(default_factory=list, max_length=MOST)
    all: StrictBool = False
    middleware: str | None = None
    source: str | None = None
    after: Annotated[Page, PlainValidator(Page.parse)] | None = None
    reason: Reason = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> Decision:
        if bool(self.offsets) is self.all:
            raise ValueError('give either "offsets" or "all": true')
        if self.offsets and (self.middleware, self.source, self.after) != (None, None, None):
            raise ValueError('"middleware", "source" and "after" go with "all": true')
        return self


def dead_letters_api(
    store: DeadLetterStore, submit: Callable[[Submission, float], Future[Receipt]]
) -> Blueprint:
    """Return the API of a store whose events are re-driven by ``submit``, the queue's."""
    api = Blueprint("dead letters", __name__)
    redriver = Redriver(store, submit)
    handle_invalid(api, Query, Decision)
    _handle_store(api)

    @api.get("")
    def list_letters() -> Response:
        query = Query.model_validate(request.args.to_dict())
        selection = Selection(query.status, query.middleware, query.source)
        found = store.find(selection, query.after, query.limit)
        return jsonify(
            dead_letters=[each.describe() for each in found],
            counts=store.counts(),
            next=str(found[-1].id) if len(found) == query.limit else None,
        )

    @api.get("/<letter_id>")
    def show(letter_id: str) -> Response:
        try:
            stored = store.get(LetterId.parse(letter_id))
        except ValueError as error:
            return problem(HTTPStatus.NOT_FOUND, str(error))
        if stored is None:
            return problem(HTTPStatus.NOT_FOUND, f"there is no dead letter {letter_id}")
        return jsonify(stored.describe_all())

    @api.post("/redrive")
    def redrive() -> Response:
        return _decide("re-drive", redriver.redrive, whole=True)

    @api.post("/discard")
    def discard() -> Response:
        return _decide("discard", redriver.discard, whole=False)

    def _decide(
        what: str, decide: Callable[[list[LetterId]], list[Outcome]], *, whole: bool
    ) -> Response:
        decision = Decision.model_validate(read_body())
        ids, upto = decision.offsets, None
        if decision.all:
            after, upto = decision.after or (None, None)
            if upto is None:
                upto = next((each.id for each in store.find(limit=1)), LetterId(0, 0))
            wanted = Selection(Status.WAITING, decision.middleware, decision.source, whole, upto)
            ids = [each.id for each in store.find(wanted, after, MOST, newest_first=False)]
        outcomes = decide(ids)
        reason = decision.reason or "no reason given"
        done = sum(not each.detail for each in outcomes)
        first = ids[0] if ids else "none"
        log.info("%s: %d of %d dead letters from %s on (%s)", what, done, len(ids), first, reason)
        more = decision.all and len(ids) == MOST
        return jsonify(
            results=[_described(each) for each in outcomes],
            next=str(Page(ids[-1], upto)) if more else None,
        )

    return api


def _handle_store(api: Blueprint) -> None:
    """Answer what a database can raise."""

    @api.errorhandler(OSError)
    def _not_now(error: OSError) -> Response:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}; ask again later")

    @api.errorhandler(PipelineFailed)
    def _damaged(error: PipelineFailed) -> Response:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def _described(outcome: Outcome) -> dict[str, Any]:
    described = {"id": str(outcome.id), "status": outcome.status or "unknown"}
    if outcome.redriven_as:
        described["redriven_as"] = outcome.redriven_as
    return described | ({"detail": outcome.detail} if outcome.detail else {})
