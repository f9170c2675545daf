"""No unit test is timed: others may want the processor, so hypothesis has no deadline."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
