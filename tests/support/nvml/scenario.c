#define _GNU_SOURCE
#include "scenario.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define GPU_IS_LOST 15

static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;

static void add_line(struct scenario *scenario, char *line)
{
    char *key = strtok(line, " \t\r\n");
    char *rest = strtok(NULL, "\r\n");
    if (key == NULL || key[0] == '#')
        return;
    if (strcmp(key, "gpu") == 0 || strcmp(key, "slice") == 0) {
        if (scenario->count == MOST_UNITS)
            abort();
        struct unit *unit = &scenario->units[scenario->count++];
        unit->kind = key[0] == 'g' ? GPU : SLICE;
        for (struct unit *above = unit; unit->kind == SLICE && unit->parent == NULL; above--)
            if (above->kind == GPU)
                unit->parent = above;
        return;
    }
    struct entry *entry = calloc(1, sizeof *entry);
    entry->key = strdup(key);
    entry->value = strdup(rest == NULL ? "" : rest);
    struct entry **end = &scenario->units[scenario->count - 1].entries;
    while (*end != NULL)
        end = &(*end)->next;
    *end = entry;
}

static struct scenario *read_file(FILE *file)
{
    struct scenario *scenario = calloc(1, sizeof *scenario);
    scenario->count = 1;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) >= 0)
        add_line(scenario, line);
    free(line);
    return scenario;
}

/* A replaced scenario is kept: another thread may be reading it. They are small and few. */
const struct scenario *scenario_now(void)
{
    static struct scenario *current;
    static struct stat seen;
    const char *path = getenv("NVML_SCENARIO");
    struct stat now;
    if (path == NULL || stat(path, &now) != 0)
        return NULL;
    pthread_mutex_lock(&reading);
    if (current == NULL || now.st_ino != seen.st_ino || now.st_size != seen.st_size
        || memcmp(&now.st_mtim, &seen.st_mtim, sizeof now.st_mtim) != 0) {
        FILE *file = fopen(path, "r");
        if (file != NULL) {
            current = read_file(file);
            seen = now;
            fclose(file);
        }
    }
    pthread_mutex_unlock(&reading);
    return current;
}

const char *value_of(const struct unit *unit, const char *key, unsigned n)
{
    for (const struct entry *entry = unit->entries; entry != NULL; entry = entry->next)
        if (strcmp(entry->key, key) == 0 && n-- == 0)
            return entry->value;
    return NULL;
}

const struct unit *nth_unit(const struct scenario *scenario, enum kind kind, const struct unit *parent, unsigned n)
{
    for (size_t i = 0; i < scenario->count; i++) {
        const struct unit *unit = &scenario->units[i];
        if (unit->kind == kind && unit->parent == parent && n-- == 0)
            return unit;
    }
    return NULL;
}

static int listed_error(const struct unit *unit, const char *function)
{
    char name[128];
    int code;
    const char *value;
    for (unsigned n = 0; (value = value_of(unit, "error", n)) != NULL; n++)
        if (sscanf(value, "%127s %d", name, &code) == 2 && strcmp(name, function) == 0)
            return code;
    return 0;
}

int error_for(const struct scenario *scenario, const struct unit *unit, const char *function)
{
    const struct unit *card = unit->parent != NULL ? unit->parent : unit;
    if (value_of(card, "lost", 0) != NULL)
        return GPU_IS_LOST;
    int code = listed_error(unit, function);
    return code != 0 ? code : listed_error(&scenario->units[0], function);
}
