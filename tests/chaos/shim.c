/*
 * Preloaded into a daemon: a wall clock that is off, and a disk that stalls or fails.
 *
 * CHAOS_CONTROL names a file of 64-bit integers that the test writes and this library maps. The monotonic clocks are
 * left alone.
 *
 * CHAOS_JOURNAL names a file that gets a record of each write to the archive's log, with the bytes that it replaces, and of
 * each sync. With it a test can take back what a power cut would have taken.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    CLOCK_OFFSET_NS, /* added to the wall clock */
    HOLD_SYNCS,      /* while not 0, no sync of a segment ends */
    SYNC_DELAY_US,   /* each sync of a segment takes so much longer */
    SYNC_ERRNO,      /* while not 0, each sync of a segment fails with it */
    WRITE_ERRNO,     /* while not 0, each write to a segment fails with it */
    HOLD_WRITES,     /* while not 0, no write to a segment ends */
    JOURNAL,         /* while not 0, writes and syncs are recorded */
    LIE,             /* while not 0, syncs succeed and do nothing */
    HELD,            /* counts syncs and writes that were held or delayed */
    FAILED,          /* counts syncs and writes that failed */
    FIELDS
};

static volatile int64_t nothing[FIELDS];
static volatile int64_t *control = nothing;
static int journal = -1;

__attribute__((constructor)) static void map_control(void) {
    const char *path = getenv("CHAOS_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, FIELDS * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(fd);
    path = getenv("CHAOS_JOURNAL");
    if (path) journal = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
}

static void count(int field) { __atomic_fetch_add(&control[field], 1, __ATOMIC_RELAXED); }

static int ends_with(const char *path, ssize_t length, const char *end) {
    ssize_t wanted = (ssize_t)strlen(end);
    return length > wanted && memcmp(path + length - wanted, end, (size_t)wanted) == 0;
}

/* The segments, the space that is kept for the next one, and what recovery writes before it becomes a segment. */
static int is_segment(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    const char *ends[] = {".seg", "/reserve", "/recovery.tmp"};
    for (int at = 0; at < 3; at++)
        if (ends_with(path, length, ends[at])) return 1;
    return 0;
}

enum { WRITTEN = 1, SYNCED = 2 };

struct record {
    int64_t kind, inode, born_ns, at, length;
};

/* A file system gives the inode of a removed file to a new one: the time of birth tells them apart. */
static struct record record_of(int64_t kind, int fd) {
    struct statx found;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &found) != 0) abort();
    int64_t born_ns = (int64_t)found.stx_btime.tv_sec * 1000000000 + found.stx_btime.tv_nsec;
    return (struct record){kind, (int64_t)found.stx_ino, born_ns, 0, 0};
}

static void append(struct record *record, void *bytes) {
    struct iovec parts[2] = {{record, sizeof *record}, {bytes, (size_t)record->length}};
    if (writev(journal, parts, 2) != (ssize_t)(sizeof *record) + record->length) abort();
}

static void record_write(int fd, size_t length, off64_t at) {
    if (journal < 0 || !control[JOURNAL]) return;
    void *before;
    /* Direct access needs aligned memory. */
    if (posix_memalign(&before, 4096, length) != 0) abort();
    memset(before, 0, length);
    /* Behind the end of the file there is nothing to read. */
    if (syscall(SYS_pread64, fd, before, length, at) < 0) abort();
    struct record record = record_of(WRITTEN, fd);
    record.at = at;
    record.length = (int64_t)length;
    append(&record, before);
    free(before);
}

static void record_sync(int fd) {
    if (journal < 0 || !control[JOURNAL]) return;
    struct record record = record_of(SYNCED, fd);
    append(&record, NULL);
}

static void hold(int field) {
    if (!control[field]) return;
    count(HELD);
    while (control[field]) usleep(1000);
}

static int fails(int field) {
    if (!control[field]) return 0;
    count(FAILED);
    errno = (int)control[field];
    return 1;
}

static int synced(long number, int fd) {
    if (is_segment(fd)) {
        hold(HOLD_SYNCS);
        if (control[SYNC_DELAY_US]) {
            count(HELD);
            usleep((useconds_t)control[SYNC_DELAY_US]);
        }
        if (fails(SYNC_ERRNO)) return -1;
        if (control[LIE]) return 0;
        int result = (int)syscall(number, fd);
        if (result == 0) record_sync(fd);
        return result;
    }
    return (int)syscall(number, fd);
}

int fdatasync(int fd) { return synced(SYS_fdatasync, fd); }

int fsync(int fd) { return synced(SYS_fsync, fd); }

ssize_t pwrite64(int fd, const void *bytes, size_t count_bytes, off64_t at) {
    if ((control[HOLD_WRITES] || control[WRITE_ERRNO] || control[JOURNAL]) && is_segment(fd)) {
        hold(HOLD_WRITES);
        if (fails(WRITE_ERRNO)) return -1;
        record_write(fd, count_bytes, at);
    }
    return syscall(SYS_pwrite64, fd, bytes, count_bytes, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count_bytes, off_t at) {
    return pwrite64(fd, bytes, count_bytes, at);
}

static void shift(struct timespec *time) {
    int64_t offset = control[CLOCK_OFFSET_NS];
    int64_t ns = time->tv_nsec + offset % 1000000000;
    time->tv_sec += offset / 1000000000 + (ns >= 1000000000) - (ns < 0);
    time->tv_nsec = ns >= 1000000000 ? ns - 1000000000 : ns < 0 ? ns + 1000000000 : ns;
}

static int is_wall(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*libc)(clockid_t, struct timespec *);
    if (!libc) libc = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = libc(clock, time);
    if (result == 0 && is_wall(clock)) shift(time);
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
