/* A scenario: what the machine, its GPUs and their slices would say. See __init__.py for the file's format. */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <stddef.h>

enum kind { HOST, GPU, SLICE };

/* One line of the file: a key and the rest. */
struct entry {
    char *key;
    char *value;
    struct entry *next;
};

/* The host, one GPU, or one MIG slice of the GPU before it. */
struct unit {
    enum kind kind;
    struct unit *parent; /* of a slice */
    struct entry *entries;
};

#define MOST_UNITS 1024

struct scenario {
    struct unit units[MOST_UNITS]; /* the first is the host */
    size_t count;
};

/* The scenario as its file stands now; NULL without a file. Read again whenever the file changes. */
const struct scenario *scenario_now(void);

/* The value of the n-th entry `key` of a unit; NULL where there is none. */
const char *value_of(const struct unit *unit, const char *key, unsigned n);

/* The n-th GPU, or the n-th slice of `parent`; NULL where there is none. */
const struct unit *nth_unit(const struct scenario *scenario, enum kind kind, const struct unit *parent, unsigned n);

/* The error code the file gives for `function` on this unit; 0 where it gives none. */
int error_for(const struct scenario *scenario, const struct unit *unit, const char *function);

#endif
