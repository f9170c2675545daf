/* What NVML tells of failing memory, and its critical events (Xid). */
#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNCORRECTED = 1, VOLATILE = 0, RECOVERY_ACTION = 230, UNSIGNED_INT = 1, XID_EVENT = 8, MOST_CARDS = 64 };

struct field_value {
    unsigned id, scope;
    int64_t timestamp, latency_us;
    unsigned type, code;
    union { double number; unsigned count; u64 wide; } value;
};
struct event { device card; u64 type, data; unsigned gpu_instance, compute_instance; };

int nvmlDeviceGetTotalEccErrors(device d, unsigned type, unsigned counter, u64 *out)
{
    unsigned errors = 0;
    int wanted = type == UNCORRECTED && counter == VOLATILE;
    int code = number_of(__func__, d, wanted ? "ecc_uncorrected" : "ecc_other", &errors);
    *out = errors;
    return code;
}

int nvmlDeviceGetRemappedRows(device d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
    const struct unit *unit;
    int code = unit_of(__func__, d, &unit);
    const char *text = code == SUCCESS ? value_of(unit, "remapped_rows", 0) : NULL;
    if (text == NULL)
        return code != SUCCESS ? code : NOT_SUPPORTED;
    return sscanf(text, "%u %u %u %u", corrected, uncorrected, pending, failed) == 4 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetRetiredPagesPendingStatus(device d, unsigned *pending)
{
    return number_of(__func__, d, "retired_pages_pending", pending);
}

int nvmlDeviceGetFieldValues(device d, int count, struct field_value *values)
{
    const struct unit *unit;
    int code = unit_of(__func__, d, &unit);
    for (int n = 0; code == SUCCESS && n < count; n++) {
        const char *text = values[n].id == RECOVERY_ACTION ? value_of(unit, "recovery_action", 0) : NULL;
        values[n].code = text == NULL ? NOT_SUPPORTED : SUCCESS;
        values[n].type = UNSIGNED_INT;
        values[n].value.count = text == NULL ? 0 : (unsigned)strtoul(text, NULL, 10);
    }
    return code;
}

/* --- events: the lines `xid N` that the file gained since a card was registered, each told once */

static unsigned told[MOST_CARDS];
static int registered[MOST_CARDS];

static unsigned xids_of(const struct unit *unit)
{
    unsigned count = 0;
    while (value_of(unit, "xid", count) != NULL)
        count++;
    return count;
}

int nvmlEventSetCreate(device *set)
{
    memset(registered, 0, sizeof registered);
    *set = 1;
    return SUCCESS;
}

int nvmlEventSetFree(device set)
{
    (void)set;
    memset(registered, 0, sizeof registered);
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(device d, u64 types, device set)
{
    const struct unit *unit;
    int code = unit_of(__func__, d, &unit);
    (void)set;
    if (code != SUCCESS || (types & XID_EVENT) == 0 || d >= MOST_CARDS)
        return code != SUCCESS ? code : NOT_SUPPORTED;
    registered[d] = 1;
    told[d] = xids_of(unit);
    return SUCCESS;
}

int nvmlEventSetWait_v2(device set, struct event *event, unsigned timeout_ms)
{
    const struct scenario *scenario;
    int code = host_of("nvmlEventSetWait", &scenario);
    (void)set;
    (void)timeout_ms;
    for (device d = 1; code == SUCCESS && d < MOST_CARDS; d++) {
        const struct unit *unit = registered[d] ? nth_unit(scenario, GPU, NULL, (unsigned)d - 1) : NULL;
        const char *text = unit == NULL ? NULL : value_of(unit, "xid", told[d]);
        if (text == NULL)
            continue;
        told[d]++;
        *event = (struct event){d, XID_EVENT, strtoull(text, NULL, 10), ~0u, ~0u};
        return SUCCESS;
    }
    return code != SUCCESS ? code : TIMED_OUT;
}
