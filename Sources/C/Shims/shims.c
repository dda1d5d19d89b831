#define _GNU_SOURCE
#include "shims.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static int place(posix_spawn_file_actions_t *actions, int from, int to, int flags) {
    if (from < 0) return posix_spawn_file_actions_addopen(actions, to, "/dev/null", flags, 0);
    // dup2 onto itself keeps close-on-exec in the kernel's eyes; glibc clears it for adddup2 of equal numbers.
    return posix_spawn_file_actions_adddup2(actions, from, to);
}

int shim_spawn(const struct shim_spawn *request, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return error;
    error = posix_spawnattr_init(&attributes);
    if (error) {
        posix_spawn_file_actions_destroy(&actions);
        return error;
    }
    sigemptyset(&none);
    sigfillset(&all);
    if (request->new_session) flags |= POSIX_SPAWN_SETSID;
    if (!error) error = posix_spawnattr_setsigmask(&attributes, &none);
    if (!error) error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!error) error = posix_spawnattr_setflags(&attributes, flags);
    if (!error) error = place(&actions, request->input, 0, O_RDONLY);
    if (!error) error = place(&actions, request->output, 1, O_WRONLY);
    if (!error) error = place(&actions, request->error, 2, O_WRONLY);
    if (!error && request->extra >= 0) error = posix_spawn_file_actions_adddup2(&actions, request->extra, 3);
    if (!error) error = posix_spawn_file_actions_addclosefrom_np(&actions, request->extra >= 0 ? 4 : 3);
    if (!error && request->directory)
        error = posix_spawn_file_actions_addchdir_np(&actions, request->directory);
    if (!error)
        error = posix_spawn(pid, request->executable, &actions, &attributes, request->arguments,
                            request->environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static int value_or_error(long value) { return value < 0 ? -errno : (int)value; }
static int zero_or_error(long value) { return value < 0 ? errno : 0; }

int shim_pidfd_open(pid_t pid) { return value_or_error(syscall(SYS_pidfd_open, pid, 0)); }

int shim_pidfd_send_signal(int descriptor, int signal) {
    return zero_or_error(syscall(SYS_pidfd_send_signal, descriptor, signal, NULL, 0));
}

int shim_open(const char *path, int flags, mode_t mode) { return value_or_error(open(path, flags | O_CLOEXEC, mode)); }

int shim_open_in(int folder, const char *path, int flags, mode_t mode) {
    return value_or_error(openat(folder, path, flags | O_CLOEXEC, mode));
}

int shim_set_nonblocking(int descriptor, bool on) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0) return errno;
    return zero_or_error(fcntl(descriptor, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

int shim_set_cloexec(int descriptor, bool on) {
    return zero_or_error(fcntl(descriptor, F_SETFD, on ? FD_CLOEXEC : 0));
}

int shim_dup_above(int descriptor, int minimum) {
    return value_or_error(fcntl(descriptor, F_DUPFD_CLOEXEC, minimum));
}

void shim_device_numbers(dev_t device, uint32_t *major_number, uint32_t *minor_number) {
    *major_number = major(device);
    *minor_number = minor(device);
}

int shim_exchange(const char *first, const char *second) {
    return zero_or_error(renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE));
}

int shim_rename_new(const char *from, const char *to) {
    return zero_or_error(renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE));
}

int shim_sync_file_system(int descriptor) { return zero_or_error(syncfs(descriptor)); }
int shim_start_writing_back(int descriptor) {
    return zero_or_error(sync_file_range(descriptor, 0, 0, SYNC_FILE_RANGE_WRITE));
}

int shim_wait_result(int status) { return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status); }

pid_t shim_siginfo_pid(const void *info) { return ((const siginfo_t *)info)->si_pid; }

int shim_become_subreaper(void) { return zero_or_error(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)); }

int shim_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return errno;
    limit.rlim_cur = limit.rlim_max;
    return zero_or_error(setrlimit(RLIMIT_NOFILE, &limit));
}

int shim_terminal_columns(int descriptor) {
    struct winsize size;
    return ioctl(descriptor, TIOCGWINSZ, &size) < 0 ? 0 : size.ws_col;
}

int shim_peer_pid(int descriptor) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ? -errno : peer.pid;
}

int shim_name_thread(const char *name) { return pthread_setname_np(pthread_self(), name); }

int shim_set_pipe_size(int descriptor, int bytes) { return zero_or_error(fcntl(descriptor, F_SETPIPE_SZ, bytes)); }

static int remove_below(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info;
    (void)kind;
    return place->level == 0 ? 0 : remove(path);
}

int shim_empty_directory(const char *path) { return nftw(path, remove_below, 16, FTW_DEPTH | FTW_PHYS); }
