/* Stands between the bridge and the system, preloaded: a disk that keeps only what it was told to sync, in the folder
   DISK_KEEPS, and that fails to sync as long as the file DISK_FAILS is there. What is removed is removed at once. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t one_by_one = PTHREAD_MUTEX_INITIALIZER;

static void must(int holds, const char *what) {
    if (!holds) {
        perror(what);
        abort();
    }
}

/* Where the disk keeps the file of that path. */
static void kept(char *place, const char *path, const char *ending) {
    const char *slash = strrchr(path, '/');
    int length = snprintf(place, PATH_MAX, "%s/%s%s", getenv("DISK_KEEPS"), slash ? slash + 1 : path, ending);
    must(length > 0 && length < PATH_MAX, "a name is too long");
}

/* Renamed when it is whole, so that a kill leaves the copy before or the copy after. */
static void keep(int fd) {
    static char buffer[1 << 16];
    char link[32], path[PATH_MAX], place[PATH_MAX], part[PATH_MAX];
    ssize_t got;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    got = readlink(link, path, sizeof path - 1);
    must(got > 0, link);
    path[got] = '\0';
    kept(place, path, "");
    kept(part, path, ".part");
    int copy = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(copy >= 0, part);
    for (off_t at = 0; (got = pread(fd, buffer, sizeof buffer, at)) > 0; at += got) {
        must(write(copy, buffer, got) == got, part);
    }
    must(got == 0 && close(copy) == 0 && rename(part, place) == 0, place);
}

static int synced(int fd, long number) {
    struct stat what;
    if (access(getenv("DISK_FAILS"), F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    pthread_mutex_lock(&one_by_one);
    int result = syscall(number, fd);
    if (result == 0 && fstat(fd, &what) == 0 && S_ISREG(what.st_mode)) {
        keep(fd);
    }
    pthread_mutex_unlock(&one_by_one);
    return result;
}

int fsync(int fd) {
    return synced(fd, SYS_fsync);
}

int fdatasync(int fd) {
    return synced(fd, SYS_fdatasync);
}

int unlink(const char *path) {
    char place[PATH_MAX];
    int result = unlinkat(AT_FDCWD, path, 0);
    if (result == 0) {
        kept(place, path, "");
        unlinkat(AT_FDCWD, place, 0);
    }
    return result;
}
