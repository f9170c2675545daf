/* Another clock and a slower disk for the process that preloads it. BENT_FILE: two int64, both in nanoseconds:
 * what is added to the time of day, and how long each fsync takes longer. Changed from outside, seen at once. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

struct bent {
    volatile int64_t shift;
    volatile int64_t sync;
};

static const struct bent straight;
static const struct bent *bent = &straight;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("BENT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *seen = mmap(NULL, sizeof *bent, PROT_READ, MAP_SHARED, file, 0);
    if (seen != MAP_FAILED)
        bent = seen;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanoseconds = at->tv_sec * SECOND + at->tv_nsec + bent->shift;
        at->tv_sec = nanoseconds / SECOND;
        at->tv_nsec = nanoseconds % SECOND;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

static void wait_for_the_disk(void) {
    int64_t nanoseconds = bent->sync;
    struct timespec wait = {nanoseconds / SECOND, nanoseconds % SECOND};
    if (nanoseconds > 0)
        nanosleep(&wait, NULL);
}

int fsync(int file) {
    wait_for_the_disk();
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    wait_for_the_disk();
    return (int)syscall(SYS_fdatasync, file);
}
