/* Faults of disks and of the wall clock inside one process, switched on and off from outside while it runs.

   Loaded by LD_PRELOAD. LONGSHORE_SHIM names a file that the harness maps too (shim.py): first `struct control`, then,
   for PostgreSQL, `struct journal`. Without that file, or with zeros in it, every call does what it always did.

   The journal keeps what a write to a segment of the WAL has overwritten, until a sync of that file has completed that
   began after the write did. What is left when all processes are gone is what a power cut could have taken. Slots are
   used in turn: one that is used again too early makes a later power cut milder, never unfair. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PAGE 8192
#define SLOTS 4096
#define JOURNAL_AT 4096

struct control {                /* 64-bit each; shim.py has the same order */
    int64_t clock_ms;           /* the wall clock is ahead by so much */
    int64_t syncs_to_fail;      /* so many syncs of the WAL say EIO */
    int64_t syncs_wait;         /* a sync of the WAL does not begin while this stands */
    int64_t wal_is_full;        /* every write to the WAL says ENOSPC */
    int64_t data_is_full;       /* whatever makes a data file longer says ENOSPC */
    int64_t journal_is_on;
    int64_t met;                /* so many calls were answered wrongly */
};

struct slot {
    int64_t ticket;             /* its number in the order of all writes, from 1; 0 while it is being filled */
    int64_t inode, at, length;  /* of the page that was written; files are renamed, inodes are not */
    int64_t done;               /* the tick at which the write had been done; 0 before */
    int64_t durable;
};

struct journal {
    int64_t tickets, ticks;     /* given out so far */
    struct slot slots[SLOTS];
    char before[SLOTS][PAGE];   /* what stood there */
};

enum place { ELSEWHERE, DATA, WAL, SEGMENT };

static struct control *control;
static struct journal *journal;

#define ADD(counter, by) __atomic_add_fetch(&(counter), by, __ATOMIC_SEQ_CST)
#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("LONGSHORE_SHIM");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    struct stat is;
    if (file < 0) return;
    if (fstat(file, &is) == 0 && is.st_size >= (off_t) sizeof(struct control)) {
        char *mapped = mmap(NULL, is.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) {
            if (is.st_size >= (off_t) (JOURNAL_AT + sizeof(struct journal))) journal = (void *) (mapped + JOURNAL_AT);
            control = (void *) mapped;
        }
    }
    close(file);
}

/* The wall clock */

static int64_t ahead_ms(void)
{
    int64_t ms = control ? control->clock_ms : 0;
    if (ms) ADD(control->met, 1);
    return ms;
}

static void shift(struct timespec *t, int64_t ms)
{
    int64_t ns = t->tv_nsec + ms % 1000 * 1000000;
    t->tv_sec += ms / 1000 + (ns >= 1000000000) - (ns < 0);
    t->tv_nsec = ns + (ns < 0) * 1000000000LL - (ns >= 1000000000) * 1000000000LL;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    REAL(clock_gettime);
    int result = real(id, now);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) shift(now, ahead_ms());
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec t;
    (void) zone;
    if (clock_gettime(CLOCK_REALTIME, &t) != 0) return -1;
    now->tv_sec = t.tv_sec;
    now->tv_usec = t.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (now) *now = t.tv_sec;
    return t.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

/* The kernel's clock does not jump: a moment to wait for is handed to it as it would have been without us. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    REAL(sem_timedwait);
    struct timespec t = *until;
    shift(&t, -ahead_ms());
    return real(semaphore, &t);
}

/* Disks */

static enum place place_of(int file)
{
    char link[32] = "/proc/self/fd/", digits[12], path[4096], *to = link + strlen(link);
    int n = 0;
    do digits[n++] = '0' + file % 10; while ((file /= 10) > 0);
    while (n) *to++ = digits[--n];
    *to = 0;
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    if (length < 0) return ELSEWHERE;
    path[length] = 0;
    const char *wal = strstr(path, "/pg_wal/");
    if (wal) return strspn(wal + 8, "0123456789ABCDEF") == 24 && strlen(wal + 8) == 24 ? SEGMENT : WAL;
    return strstr(path, "/base/") ? DATA : ELSEWHERE;
}

static int does_not_fit(int file, enum place place, off_t at, size_t length)
{
    struct stat is;
    int full = (place >= WAL && control->wal_is_full) || (place == DATA && control->data_is_full
        && fstat(file, &is) == 0 && at + (off_t) length > is.st_size);
    if (full) ADD(control->met, 1);
    return full;
}

/* Answers the first ticket of these bytes. */
static int64_t note(int file, off_t at, size_t length)
{
    int64_t pages = (length + PAGE - 1) / PAGE, first = ADD(journal->tickets, pages) - pages + 1;
    struct stat is;
    fstat(file, &is);
    for (int64_t page = 0; page < pages; page++, at += PAGE, length -= PAGE) {
        int64_t place = (first + page) % SLOTS;
        struct slot *slot = &journal->slots[place];
        size_t wanted = length < PAGE ? length : PAGE;
        __atomic_store_n(&slot->ticket, 0, __ATOMIC_SEQ_CST);
        memset(journal->before[place], 0, PAGE);
        for (size_t got = 0; got < wanted;) {
            ssize_t more = pread(file, journal->before[place] + got, wanted - got, at + got);
            if (more <= 0) break;
            got += more;
        }
        slot->inode = is.st_ino, slot->at = at, slot->length = wanted, slot->done = slot->durable = 0;
        __atomic_store_n(&slot->ticket, first + page, __ATOMIC_SEQ_CST);
    }
    return first;
}

static void note_done(int64_t first, size_t length)
{
    int64_t now = ADD(journal->ticks, 1);
    for (int64_t ticket = first; ticket < first + (int64_t) ((length + PAGE - 1) / PAGE); ticket++) {
        struct slot *slot = &journal->slots[ticket % SLOTS];
        if (slot->ticket == ticket) __atomic_store_n(&slot->done, now, __ATOMIC_SEQ_CST);
    }
}

static void note_durable(int file, int64_t began)
{
    struct stat is;
    if (fstat(file, &is) != 0) return;
    for (struct slot *slot = journal->slots; slot < journal->slots + SLOTS; slot++)
        if (slot->ticket && slot->inode == (int64_t) is.st_ino && slot->done && slot->done < began) slot->durable = 1;
}

#define ON_WRITE(file, at, length, write) \
    if (!control || !(control->wal_is_full | control->data_is_full | control->journal_is_on)) return write; \
    enum place place = place_of(file); \
    if (does_not_fit(file, place, at, length)) return errno = ENOSPC, -1; \
    if (!journal || !control->journal_is_on || place != SEGMENT) return write; \
    int64_t first = note(file, at, length); \
    ssize_t result = write; \
    note_done(first, length); \
    return result

ssize_t pwrite(int file, const void *from, size_t length, off_t at)
{
    REAL(pwrite);
    ON_WRITE(file, at, length, real(file, from, length, at));
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at)
{
    REAL(pwritev);
    size_t length = 0;
    for (int part = 0; part < count; part++) length += parts[part].iov_len;
    ON_WRITE(file, at, length, real(file, parts, count, at));
}

int posix_fallocate(int file, off_t at, off_t length)
{
    REAL(posix_fallocate);
    if (control && control->data_is_full && does_not_fit(file, place_of(file), at, length)) return ENOSPC;
    return real(file, at, length);
}

static int sync_by(int (*real)(int), int file)
{
    if (!control || !(control->syncs_to_fail | control->syncs_wait | control->journal_is_on)) return real(file);
    if (place_of(file) < WAL) return real(file);
    while (control->syncs_wait) nanosleep(&(struct timespec) {0, 1000000}, NULL);
    if (control->syncs_to_fail > 0 && ADD(control->syncs_to_fail, -1) >= 0) {
        ADD(control->met, 1);
        return errno = EIO, -1;
    }
    int64_t began = journal ? ADD(journal->ticks, 1) : 0;
    int result = real(file);
    if (result == 0 && journal) note_durable(file, began);
    return result;
}

int fsync(int file)
{
    REAL(fsync);
    return sync_by(real, file);
}

int fdatasync(int file)
{
    REAL(fdatasync);
    return sync_by(real, file);
}

#ifdef __LP64__ /* the same calls under their other names */
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));
int posix_fallocate64(int, off_t, off_t) __attribute__((alias("posix_fallocate")));
#endif
