/* Lets one of the system calls fail that create, write, link or rename files, as on a disk that is full:
 *
 *     cc -shared -fPIC -o failing.so failing.c -ldl
 *     LD_PRELOAD=./failing.so PROGRAM
 *
 * PROGRAM calls failing_at(n, error): the n-th such call from then on, counted from 1, fails with that errno; 0: none.
 * failing_counter(place) has them counted there, for other processes to see. Pipes and terminals are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long own, fails_at;
static atomic_long *calls = &own;
static atomic_int with = ENOSPC;

void failing_at(long n, int error) {
    *calls = 0;
    with = error;
    fails_at = n;
}

void failing_counter(atomic_long *place) { calls = place; }

static int fails(void) {
    long n = ++*calls;
    if (!fails_at || n != fails_at) return 0;
    errno = with;
    return 1;
}

static int regular(int file) {
    struct stat status;
    return !fstat(file, &status) && S_ISREG(status.st_mode);
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *bytes, size_t n) {
    if (regular(file) && fails()) return -1;
    return REAL(ssize_t, write, int, const void *, size_t)(file, bytes, n);
}

ssize_t writev(int file, const struct iovec *parts, int n) {
    if (regular(file) && fails()) return -1;
    return REAL(ssize_t, writev, int, const struct iovec *, int)(file, parts, n);
}

ssize_t pwrite64(int file, const void *bytes, size_t n, off64_t at) {
    if (regular(file) && fails()) return -1;
    return REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)(file, bytes, n, at);
}

int fsync(int file) { return fails() ? -1 : REAL(int, fsync, int)(file); }

int ftruncate64(int file, off64_t size) { return fails() ? -1 : REAL(int, ftruncate64, int, off64_t)(file, size); }

int link(const char *from, const char *to) { return fails() ? -1 : REAL(int, link, const char *, const char *)(from, to); }

int linkat(int from_in, const char *from, int to_in, const char *to, int flags) {
    return fails() ? -1 : REAL(int, linkat, int, const char *, int, const char *, int)(from_in, from, to_in, to, flags);
}

int rename(const char *from, const char *to) {
    return fails() ? -1 : REAL(int, rename, const char *, const char *)(from, to);
}

static int opened(const char *name, int folder, const char *path, int flags, va_list rest) {
    mode_t mode = 0;
    int creates = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
    if (creates) mode = va_arg(rest, mode_t);
    if (creates && fails()) return -1;
    return ((int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, name))(folder, path, flags, mode);
}

#define OPENER(name, as)                                                                                               \
    int name(const char *path, int flags, ...) {                                                                      \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        int file = opened(as, AT_FDCWD, path, flags, rest);                                                            \
        va_end(rest);                                                                                                  \
        return file;                                                                                                   \
    }
OPENER(open, "openat")
OPENER(open64, "openat64")
