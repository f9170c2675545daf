"""Listening on the bus, as a test's own ear."""

from compute_common.bus import Bus, Message


async def messages_on(bus: Bus, subject: str) -> list[Message]:
    """The messages on `subject` from now on; the list grows as they come."""
    messages: list[Message] = []

    async def hear(message: Message) -> None:
        messages.append(message)

    await bus.subscribe(subject, hear)
    await bus.flush()
    return messages
