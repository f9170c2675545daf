"""`compute.gpu.<verb>.v1.<node_id>`: this host's ledger over NATS."""

from compute_common import subjects
from compute_common.bus import Bus, Handler, Message
from compute_common.schemas.gpu import (
    BindRequest,
    CanFitRequest,
    CordonRequest,
    RenewRequest,
    ReservationRef,
    ReserveRequest,
    YieldRequest,
    YieldTarget,
)
from gpu_orchestrator.local import LocalHost


async def serve(bus: Bus, host: LocalHost) -> None:
    """Answer every verb that is addressed to this host."""
    for verb, handler in {**_reservations(host), **_questions(host), **_orders(host)}.items():
        await bus.serve(subjects.gpu_subject(verb, host.node_id), handler)


def _reservations(host: LocalHost) -> dict[str, Handler]:
    async def reserve(body: Message) -> object:
        return await host.reserve(ReserveRequest.model_validate(body))

    async def renew(body: Message) -> object:
        ref = ReservationRef.model_validate(body)
        return await host.renew(ref.reservation_id, RenewRequest.model_validate(body))

    async def bind(body: Message) -> object:
        ref = ReservationRef.model_validate(body)
        return await host.bind(ref.reservation_id, BindRequest.model_validate(body))

    async def release(body: Message) -> object:
        ref = ReservationRef.model_validate(body)
        await host.release(ref.reservation_id)
        return {"reservation_id": ref.reservation_id, "state": "released"}

    return {"reserve": reserve, "renew": renew, "bind": bind, "release": release}


def _questions(host: LocalHost) -> dict[str, Handler]:
    async def can_fit(body: Message) -> object:
        return await host.can_fit(CanFitRequest.model_validate(body))

    async def states(_body: Message) -> object:
        return await host.states()

    async def memory(_body: Message) -> object:
        return await host.memory()

    return {"can-fit": can_fit, "states": states, "memory": memory}


def _orders(host: LocalHost) -> dict[str, Handler]:
    async def cordon(body: Message) -> object:
        return await host.cordon(CordonRequest.model_validate(body).index, True)

    async def uncordon(body: Message) -> object:
        return await host.cordon(CordonRequest.model_validate(body).index, False)

    async def begin(body: Message) -> object:
        return await host.yield_to_owner(YieldRequest.model_validate(body))

    async def end(body: Message) -> object:
        return await host.end_yield(YieldTarget.model_validate(body))

    async def standing(_body: Message) -> object:
        return await host.yields()

    return {
        "cordon": cordon,
        "uncordon": uncordon,
        "yield": begin,
        "end-yield": end,
        "yields": standing,
    }
