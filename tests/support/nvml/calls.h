/* What the files of calls share: finding the unit that a handle means, or the error it is to answer with. */
#ifndef CALLS_H
#define CALLS_H

#include "scenario.h"

#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMED_OUT = 10,
};

/* 1 + GPU, and for a MIG slice 0x10000 × (1 + slice) on top. */
typedef uintptr_t device;
typedef unsigned long long u64;

/* The host, if NVML was started and this call is not one that fails. */
HIDDEN int host_of(const char *function, const struct scenario **scenario);

/* The GPU or slice, if this call is not one that fails on it. */
HIDDEN int unit_of(const char *function, device handle, const struct unit **unit);

/* The number under `key` of a unit; NOT_SUPPORTED where the file gives none. */
HIDDEN int number_of(const char *function, device handle, const char *key, unsigned *out);

#endif
