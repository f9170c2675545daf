/* libnvidia-ml.so.1 for tests: the calls of NVML that our programs make, answered from a scenario file.
 *
 * A value the file does not give is NVML_ERROR_NOT_SUPPORTED. With -DOLD_DRIVER the library lacks what a driver
 * of the 450 series lacks.
 */
#define _POSIX_C_SOURCE 200809L
#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINK_TO_GPU = 0, LINK_TO_SWITCH = 2, MOST_LINKS = 36, MOST_SLICES = 7 };
enum { P2P_OK = 0, P2P_NOT_SUPPORTED = 5, P2P_NVLINK = 2, CLOCK_MEM = 2 };

struct memory { u64 total, free, used; };
struct memory_v2 { unsigned version; u64 total, reserved, free, used; };
struct utilization { unsigned gpu, memory; };
struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
struct process { unsigned pid; u64 memory; unsigned gpu_instance, compute_instance; };
struct attributes { unsigned sm, copy, decoder, encoder, jpeg, ofa, gpu_slices, compute_slices; u64 memory_mb; };

static int started;

static void pause_for(const struct unit *host)
{
    const char *text = value_of(host, "delay_ms", 0);
    long ms = text == NULL ? 0 : atol(text);
    if (ms > 0)
        nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

int host_of(const char *function, const struct scenario **scenario)
{
    *scenario = scenario_now();
    if (*scenario == NULL)
        return DRIVER_NOT_LOADED;
    if (started <= 0)
        return UNINITIALIZED;
    pause_for(&(*scenario)->units[0]);
    return error_for(*scenario, &(*scenario)->units[0], function);
}

int unit_of(const char *function, device handle, const struct unit **unit)
{
    const struct scenario *scenario;
    int code = host_of(function, &scenario);
    if (code != SUCCESS)
        return code;
    unsigned gpu = handle & 0xffff, slice = handle >> 16;
    *unit = gpu == 0 ? NULL : nth_unit(scenario, GPU, NULL, gpu - 1);
    if (*unit != NULL && slice != 0)
        *unit = nth_unit(scenario, SLICE, *unit, slice - 1);
    return *unit == NULL ? INVALID_ARGUMENT : error_for(scenario, *unit, function);
}

int number_of(const char *function, device handle, const char *key, unsigned *out)
{
    const struct unit *unit;
    int code = unit_of(function, handle, &unit);
    const char *text = code == SUCCESS ? value_of(unit, key, 0) : NULL;
    if (text == NULL)
        return code != SUCCESS ? code : NOT_SUPPORTED;
    *out = (unsigned)strtoul(text, NULL, 10);
    return SUCCESS;
}

static int copy_text(const char *text, char *out, unsigned size)
{
    if (text == NULL)
        return NOT_SUPPORTED;
    if (strlen(text) + 1 > size)
        return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

static int text_of(const char *function, device handle, const char *key, char *out, unsigned size)
{
    const struct unit *unit;
    int code = unit_of(function, handle, &unit);
    return code != SUCCESS ? code : copy_text(value_of(unit, key, 0), out, size);
}

/* --- the library and the host */

int nvmlInitWithFlags(unsigned flags)
{
    const struct scenario *scenario = scenario_now();
    (void)flags;
    if (scenario == NULL)
        return DRIVER_NOT_LOADED;
    int code = error_for(scenario, &scenario->units[0], "nvmlInit");
    started += code == SUCCESS;
    return code;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void)
{
    if (started <= 0)
        return UNINITIALIZED;
    started--;
    return SUCCESS;
}

const char *nvmlErrorString(int code)
{
    (void)code;
    return "an error of the scenario";
}

int nvmlSystemGetDriverVersion(char *out, unsigned size)
{
    const struct scenario *scenario;
    int code = host_of(__func__, &scenario);
    return code != SUCCESS ? code : copy_text(value_of(&scenario->units[0], "driver", 0), out, size);
}

static int cuda_version(const char *function, int *out)
{
    const struct scenario *scenario;
    int code = host_of(function, &scenario);
    const char *text = code == SUCCESS ? value_of(&scenario->units[0], "cuda", 0) : NULL;
    if (text == NULL)
        return code != SUCCESS ? code : NOT_SUPPORTED;
    *out = atoi(text);
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion(int *out) { return cuda_version(__func__, out); }

int nvmlDeviceGetCount_v2(unsigned *out)
{
    const struct scenario *scenario;
    int code = host_of("nvmlDeviceGetCount", &scenario);
    if (code != SUCCESS)
        return code;
    for (*out = 0; nth_unit(scenario, GPU, NULL, *out) != NULL;)
        ++*out;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *out)
{
    const struct unit *unit;
    *out = index + 1;
    return unit_of("nvmlDeviceGetHandleByIndex", *out, &unit);
}

static int handle_by(const char *function, const char *key, const char *wanted, device *out)
{
    const struct scenario *scenario;
    const struct unit *unit;
    int code = host_of(function, &scenario);
    if (code != SUCCESS)
        return code;
    for (unsigned n = 0; (unit = nth_unit(scenario, GPU, NULL, n)) != NULL; n++) {
        const char *text = value_of(unit, key, 0);
        if (text != NULL && strcmp(text, wanted) == 0) {
            *out = n + 1;
            return error_for(scenario, unit, function);
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device *out) { return handle_by(__func__, "uuid", uuid, out); }
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, device *out) { return handle_by(__func__, "pci", id, out); }

/* --- one GPU or slice */

int nvmlDeviceGetName(device d, char *out, unsigned size) { return text_of(__func__, d, "name", out, size); }
int nvmlDeviceGetUUID(device d, char *out, unsigned size) { return text_of(__func__, d, "uuid", out, size); }

int nvmlDeviceGetIndex(device d, unsigned *out)
{
    const struct unit *unit;
    *out = (unsigned)(d & 0xffff) - 1;
    return unit_of(__func__, d, &unit);
}

static int memory_of(const char *function, device d, struct memory_v2 *out)
{
    const struct unit *unit;
    int code = unit_of(function, d, &unit);
    const char *text = code == SUCCESS ? value_of(unit, "memory", 0) : NULL;
    if (text == NULL)
        return code != SUCCESS ? code : NOT_SUPPORTED;
    out->used = out->reserved = 0;
    if (sscanf(text, "%llu %llu %llu", &out->total, &out->used, &out->reserved) < 1)
        return INVALID_ARGUMENT;
    out->free = out->total - out->used - out->reserved;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device d, struct memory *out)
{
    struct memory_v2 memory;
    int code = memory_of(__func__, d, &memory);
    if (code == SUCCESS)
        *out = (struct memory){memory.total, memory.free, memory.used + memory.reserved};
    return code;
}

int nvmlDeviceGetCudaComputeCapability(device d, int *major, int *minor)
{
    const struct unit *unit;
    int code = unit_of(__func__, d, &unit);
    const char *text = code == SUCCESS ? value_of(unit, "capability", 0) : NULL;
    if (text == NULL)
        return code != SUCCESS ? code : NOT_SUPPORTED;
    return sscanf(text, "%d.%d", major, minor) == 2 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetUtilizationRates(device d, struct utilization *out)
{
    out->memory = 0;
    return number_of(__func__, d, "utilization", &out->gpu);
}

int nvmlDeviceGetMaxClockInfo(device d, unsigned clock, unsigned *out)
{
    return number_of(__func__, d, clock == CLOCK_MEM ? "memory_clock_mhz" : "other_clock_mhz", out);
}

int nvmlDeviceGetTemperature(device d, unsigned sensor, unsigned *out)
{
    (void)sensor;
    return number_of(__func__, d, "temperature_c", out);
}

int nvmlDeviceGetPowerUsage(device d, unsigned *out) { return number_of(__func__, d, "power_mw", out); }
int nvmlDeviceGetEnforcedPowerLimit(device d, unsigned *out) { return number_of(__func__, d, "power_limit_mw", out); }
int nvmlDeviceGetCurrPcieLinkGeneration(device d, unsigned *out) { return number_of(__func__, d, "pcie_now", out); }
int nvmlDeviceGetMaxPcieLinkGeneration(device d, unsigned *out) { return number_of(__func__, d, "pcie_generation", out); }
int nvmlDeviceGetMaxPcieLinkWidth(device d, unsigned *out) { return number_of(__func__, d, "pcie_width", out); }

int nvmlDeviceGetCurrPcieLinkWidth(device d, unsigned *out)
{
    return number_of(__func__, d, "pcie_width_now", out);
}

int nvmlDeviceGetEccMode(device d, unsigned *now, unsigned *pending)
{
    int code = number_of(__func__, d, "ecc", now);
    *pending = *now;
    return code;
}

static int fill_pci(const char *bus_id, struct pci *out)
{
    if (bus_id == NULL)
        return NOT_SUPPORTED;
    memset(out, 0, sizeof *out);
    snprintf(out->bus_id, sizeof out->bus_id, "%s", bus_id);
    snprintf(out->legacy, sizeof out->legacy, "%s", strlen(bus_id) > 12 ? bus_id + 4 : bus_id);
    sscanf(bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(device d, struct pci *out)
{
    const struct unit *unit;
    int code = unit_of("nvmlDeviceGetPciInfo", d, &unit);
    return code != SUCCESS ? code : fill_pci(value_of(unit, "pci", 0), out);
}

/* --- links between GPUs */

static int link_of(const char *function, device d, unsigned n, const char **text)
{
    const struct unit *unit;
    int code = unit_of(function, d, &unit);
    if (code != SUCCESS)
        return code;
    if (n >= MOST_LINKS)
        return INVALID_ARGUMENT;
    if (value_of(unit, "link", 0) == NULL)
        return NOT_SUPPORTED;
    *text = value_of(unit, "link", n);
    return *text == NULL ? INVALID_ARGUMENT : SUCCESS;
}

int nvmlDeviceGetNvLinkState(device d, unsigned n, unsigned *active)
{
    const char *text;
    int code = link_of(__func__, d, n, &text);
    if (code == SUCCESS)
        *active = strcmp(text, "down") != 0;
    return code;
}

/* Two GPUs share a switch, or one has a link to the other's index. */
static int joined(const struct unit *one, unsigned other, const struct unit *peer)
{
    const char *text;
    char number[16];
    snprintf(number, sizeof number, "%u", other);
    for (unsigned n = 0; (text = value_of(one, "link", n)) != NULL; n++) {
        if (strcmp(text, number) == 0)
            return 1;
        if (strcmp(text, "switch") == 0)
            for (unsigned m = 0; value_of(peer, "link", m) != NULL; m++)
                if (strcmp(value_of(peer, "link", m), "switch") == 0)
                    return 1;
    }
    return 0;
}

int nvmlDeviceGetP2PStatus(device d, device other, unsigned index, unsigned *status)
{
    const struct unit *one, *peer;
    int code = unit_of(__func__, d, &one);
    if (code == SUCCESS)
        code = unit_of(__func__, other, &peer);
    if (code != SUCCESS)
        return code;
    int linked = index == P2P_NVLINK && joined(one, (unsigned)other - 1, peer);
    *status = linked ? P2P_OK : P2P_NOT_SUPPORTED;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(device d, unsigned n, struct pci *out)
{
    const char *text;
    int code = link_of("nvmlDeviceGetNvLinkRemotePciInfo", d, n, &text);
    if (code != SUCCESS || strcmp(text, "down") == 0)
        return code != SUCCESS ? code : INVALID_ARGUMENT;
    if (strcmp(text, "switch") == 0)
        return fill_pci("00000000:C0:00.0", out);
    const struct unit *peer = nth_unit(scenario_now(), GPU, NULL, (unsigned)atoi(text));
    return peer == NULL ? INVALID_ARGUMENT : fill_pci(value_of(peer, "pci", 0), out);
}

/* --- processes */

static int processes_of(const char *function, device d, const char *key, unsigned *count, struct process *out)
{
    const struct unit *unit;
    int code = unit_of(function, d, &unit);
    if (code != SUCCESS)
        return code;
    if (value_of(unit, "no_processes", 0) != NULL)
        return NOT_SUPPORTED;
    unsigned found = 0, room = *count;
    const char *text;
    for (; (text = value_of(unit, key, found)) != NULL; found++) {
        struct process process = {0, 0, ~0u, ~0u};
        if (sscanf(text, "%u %llu", &process.pid, &process.memory) < 2)
            process.memory = ~0ull; /* NVML_VALUE_NOT_AVAILABLE */
        if (found < room && out != NULL)
            out[found] = process;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

/* --- what old drivers lack */

#ifndef OLD_DRIVER
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return cuda_version(__func__, out); }
int nvmlDeviceGetMemoryBusWidth(device d, unsigned *out) { return number_of(__func__, d, "memory_bus_bits", out); }

int nvmlDeviceGetMemoryInfo_v2(device d, struct memory_v2 *out) { return memory_of(__func__, d, out); }

int nvmlDeviceGetNvLinkRemoteDeviceType(device d, unsigned n, unsigned *type)
{
    const char *text;
    int code = link_of(__func__, d, n, &text);
    if (code != SUCCESS || strcmp(text, "down") == 0)
        return code != SUCCESS ? code : INVALID_ARGUMENT;
    *type = strcmp(text, "switch") == 0 ? LINK_TO_SWITCH : LINK_TO_GPU;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device d, unsigned *count, struct process *out)
{
    return processes_of("nvmlDeviceGetComputeRunningProcesses", d, "process", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(device d, unsigned *count, struct process *out)
{
    return processes_of("nvmlDeviceGetGraphicsRunningProcesses", d, "graphics", count, out);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(device d, unsigned *count, struct process *out)
{
    return processes_of("nvmlDeviceGetMPSComputeRunningProcesses", d, "mps", count, out);
}

int nvmlDeviceGetMigMode(device d, unsigned *now, unsigned *pending)
{
    int code = number_of(__func__, d, "mig", now);
    *pending = *now;
    return code;
}

int nvmlDeviceGetMaxMigDeviceCount(device d, unsigned *out)
{
    const struct unit *unit;
    *out = MOST_SLICES;
    return unit_of(__func__, d, &unit);
}

int nvmlDeviceGetMigDeviceHandleByIndex(device d, unsigned index, device *out)
{
    const struct unit *unit;
    *out = d | ((device)(index + 1) << 16);
    int code = unit_of(__func__, *out, &unit);
    return code == INVALID_ARGUMENT ? NOT_FOUND : code;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device d, device *out)
{
    *out = d & 0xffff;
    return d >> 16 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceIsMigDeviceHandle(device d, unsigned *out)
{
    *out = d >> 16 != 0;
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(device d, unsigned *out) { return number_of(__func__, d, "gpu_instance", out); }
int nvmlDeviceGetComputeInstanceId(device d, unsigned *out) { return number_of(__func__, d, "compute_instance", out); }

int nvmlDeviceGetAttributes_v2(device d, struct attributes *out)
{
    const struct unit *unit;
    int code = unit_of("nvmlDeviceGetAttributes", d, &unit);
    const char *slices = code == SUCCESS ? value_of(unit, "gpu_slices", 0) : NULL;
    if (slices == NULL)
        return code != SUCCESS ? code : NOT_SUPPORTED;
    memset(out, 0, sizeof *out);
    out->gpu_slices = out->compute_slices = (unsigned)atoi(slices);
    const char *memory = value_of(unit, "memory", 0);
    out->memory_mb = memory == NULL ? 0 : strtoull(memory, NULL, 10) >> 20;
    return SUCCESS;
}
#else
int nvmlDeviceGetComputeRunningProcesses(device d, unsigned *count, struct process *out)
{
    return processes_of(__func__, d, "process", count, out);
}
#endif
