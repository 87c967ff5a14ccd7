/* Lets one process die, or meet an error, at its n-th change of a file below given paths.
 *
 * Loaded with LD_PRELOAD. The calls of all threads are counted together, which strace cannot do: it
 * counts for each thread apart. Children do not get it: it removes itself from the environment.
 *
 * FAULT_BELOW   what the paths begin with that count
 * FAULT_AT      the number of the call, from 1; 0 for none
 * FAULT_FOR     how many calls in a row fail, from FAULT_AT on
 * FAULT_ERRNO   the error that they fail with; 0: the process is killed before the call
 * FAULT_TORN    1: half of a write is written before the process is killed
 * FAULT_LOG     a file that gets a line for each call that counts: "*" where a fault was, its name, its path
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char below[PATH_MAX];
static long at, times, error, torn, calls;
static int log_descriptor = -1;
static ssize_t (*real_write)(int, const void *, size_t);

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    const char *path = getenv("FAULT_BELOW");
    if (!path) return;
    snprintf(below, sizeof below, "%s", path);
    at = number("FAULT_AT");
    times = number("FAULT_FOR");
    error = number("FAULT_ERRNO");
    torn = number("FAULT_TORN");
    log_descriptor = open(getenv("FAULT_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    unsetenv("FAULT_BELOW");
    unsetenv("LD_PRELOAD");
}

/* Return 0 when the call is to be made, 1 when it fails; does not return when the process dies. */
static int meets_fault(const char *call, const char *path, int descriptor, const void *data,
                       size_t size, off_t place) {
    if (!below[0] || strncmp(path, below, strlen(below))) return 0;
    long n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    int hit = at && n >= at && n < at + times;
    char line[PATH_MAX + 32];
    int length = snprintf(line, sizeof line, "%s%s %s\n", hit ? "*" : "", call, path);
    real_write(log_descriptor, line, (size_t)length);
    if (!hit) return 0;
    if (error) {
        errno = (int)error;
        return 1;
    }
    if (torn && data && place < 0) real_write(descriptor, data, size / 2);
    if (torn && data && place >= 0) {
        lseek(descriptor, place, SEEK_SET);
        real_write(descriptor, data, size / 2);
    }
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void path_of(int descriptor, char *path) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    if (descriptor == AT_FDCWD) snprintf(name, sizeof name, "/proc/self/cwd");
    ssize_t length = descriptor >= 0 && descriptor <= 2 ? 0 : readlink(name, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

static void path_at(int folder, const char *name, char *path) {
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    path_of(folder, path);
    size_t length = strlen(path);
    snprintf(path + length, PATH_MAX - length, "/%s", name);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define AT_DESCRIPTOR(call, data, size, place) \
    do { \
        char path[PATH_MAX]; \
        path_of(descriptor, path); \
        if (meets_fault(call, path, descriptor, data, size, place)) return -1; \
    } while (0)

#define AT_PATH(call, folder, name) \
    do { \
        char path[PATH_MAX]; \
        path_at(folder, name, path); \
        if (meets_fault(call, path, -1, NULL, 0, 0)) return -1; \
    } while (0)

ssize_t write(int descriptor, const void *data, size_t size) {
    AT_DESCRIPTOR("write", data, size, -1);
    return real_write(descriptor, data, size);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t place) {
    REAL(pwrite);
    AT_DESCRIPTOR("pwrite", data, size, place);
    return real(descriptor, data, size, place);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t place) {
    REAL(pwrite64);
    AT_DESCRIPTOR("pwrite", data, size, place);
    return real(descriptor, data, size, place);
}

int fsync(int descriptor) {
    REAL(fsync);
    AT_DESCRIPTOR("fsync", NULL, 0, 0);
    return real(descriptor);
}

int fdatasync(int descriptor) {
    REAL(fdatasync);
    AT_DESCRIPTOR("fdatasync", NULL, 0, 0);
    return real(descriptor);
}

int ftruncate(int descriptor, off_t length) {
    REAL(ftruncate);
    AT_DESCRIPTOR("ftruncate", NULL, 0, 0);
    return real(descriptor, length);
}

int ftruncate64(int descriptor, off64_t length) {
    REAL(ftruncate64);
    AT_DESCRIPTOR("ftruncate", NULL, 0, 0);
    return real(descriptor, length);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    AT_PATH("rename", AT_FDCWD, to);
    return real(from, to);
}

int renameat(int from_folder, const char *from, int folder, const char *to) {
    REAL(renameat);
    AT_PATH("rename", folder, to);
    return real(from_folder, from, folder, to);
}

int renameat2(int from_folder, const char *from, int folder, const char *to, unsigned int flags) {
    REAL(renameat2);
    AT_PATH("rename", folder, to);
    return real(from_folder, from, folder, to, flags);
}

int unlink(const char *name) {
    REAL(unlink);
    AT_PATH("unlink", AT_FDCWD, name);
    return real(name);
}

int unlinkat(int folder, const char *name, int flags) {
    REAL(unlinkat);
    AT_PATH("unlink", folder, name);
    return real(folder, name, flags);
}

int rmdir(const char *name) {
    REAL(rmdir);
    AT_PATH("rmdir", AT_FDCWD, name);
    return real(name);
}
