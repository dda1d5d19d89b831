// What arm64.py links with our C code, and starts where a release starts: at shim_entry. It prints a line for each thing that is as
// it should be, and leaves with a status where one is not.
#define _GNU_SOURCE
#include "shims.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
extern int library_value(void);
// Of GLIBC_2.33, in a table that the loader fills in at once.
int (*const volatile table[])(int, struct stat *) = {fstat};
static int constructed;

__attribute__((constructor)) static void construct(int count, char **arguments) { constructed = count > 0 && arguments[0] != 0; }

static void end(void) { puts("the end functions run"); }

static void expect(int holds, const char *what) {
    if (!holds) {
        printf("NOT: %s\n", what);
        exit(3);
    }
    puts(what);
}

static void starting(int count, char **arguments) {
    expect(count == 3 && !strcmp(arguments[1], "one") && !strcmp(arguments[2], "two words") && !arguments[3], "the arguments arrive");
    expect(getenv("GIVEN") && !strcmp(getenv("GIVEN"), "value"), "the environment arrives");
    expect(environ == arguments + count + 1, "the environment lies behind the arguments");
    expect(getauxval(AT_PHDR) && getauxval(AT_RANDOM) && getauxval(AT_PAGESZ) == (unsigned long)sysconf(_SC_PAGESIZE), "the auxiliary vector is found");
    expect(((uintptr_t)__builtin_frame_address(0) & 15) == 0, "the stack is aligned");
    expect(constructed, "constructors ran, with the arguments");
    expect(library_value() == 42, "a library is bound when it is called");
    struct stat status;
    expect(table[0](STDERR_FILENO, &status) == 0 && status.st_mode != 0, "a table of newer functions is filled in");
}

static void substitutes(void) {
    unsigned char bytes[32] = {0}, zeros[32] = {0};
    struct dl_find_object found;
    expect(hypotf(3, 4) == 5 && isinf(hypotf(INFINITY, NAN)), "hypotf computes");
    expect(getentropy(bytes, sizeof bytes) == 0 && memcmp(bytes, zeros, sizeof bytes), "getentropy fills");
    expect(_dl_find_object((void *)starting, &found) == 0 && found.dlfo_map_start <= (void *)starting && (void *)starting < found.dlfo_map_end
               && found.dlfo_eh_frame, "_dl_find_object finds this program");
    expect(_dl_find_object((void *)library_value, &found) == 0, "and a function of a library");
    expect(_dl_find_object((void *)1, &found) == -1, "and nothing where nothing is");
}

static void shims(void) {
    int ready = eventfd(0, EFD_CLOEXEC), set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 0x0123456789ABCDEF}, got = {0};
    expect(epoll_ctl(set, EPOLL_CTL_ADD, ready, &wanted) == 0 && eventfd_write(ready, 1) == 0 && epoll_wait(set, &got, 1, 1000) == 1
               && got.events == EPOLLIN && got.data.u64 == wanted.data.u64, "epoll gives back what it was given");

    char folder[] = "/tmp/llm-gateway-arm64.XXXXXX";
    expect(mkdtemp(folder) && chdir(folder) == 0, "there is a folder");
    int file = shim_open("a", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    expect(file >= 0 && fcntl(file, F_GETFD) == FD_CLOEXEC && write(file, "a", 1) == 1, "a file is made");
    expect(symlink("a", "link") == 0 && shim_open("link", O_RDONLY | O_NOFOLLOW, 0) == -ELOOP, "a link is not followed");
    expect(shim_open("a", O_RDONLY | O_DIRECTORY, 0) == -ENOTDIR, "a file is no folder");
    expect(shim_rename_new("link", "a") == EEXIST && shim_exchange("a", "link") == 0 && readlink("a", folder + 1, 1) == 1, "names are exchanged");
    expect(shim_sync_file_system(file) == 0 && shim_start_writing_back(file) == 0, "files are written to the disk");
    folder[1] = 't';
    expect(unlink("a") == 0 && unlink("link") == 0 && rmdir(folder) == 0, "and removed");

    char *arguments[] = {"sh", "-c", "exit 7", 0}, *nothing[] = {0};
    struct shim_spawn request = {.executable = "/bin/sh", .arguments = arguments, .environment = nothing, .directory = "/", .input = -1,
                                 .output = -1, .error = -1, .extra = -1, .new_session = 1};
    pid_t child;
    int status;
    expect(shim_spawn(&request, &child) == 0 && waitpid(child, &status, 0) == child && shim_wait_result(status) == 7, "a process is started");
    arguments[2] = "exec sleep 60";
    siginfo_t info;
    expect(shim_spawn(&request, &child) == 0, "another one");
    int handle = shim_pidfd_open(child);
    expect(handle >= 0 && shim_pidfd_send_signal(handle, SIGTERM) == 0 && waitid(P_PID, (id_t)child, &info, WEXITED) == 0
               && shim_siginfo_pid(&info) == child, "and ended through its descriptor");
}

int main(int count, char **arguments) {
    setvbuf(stdout, 0, _IOLBF, 0);
    atexit(end);
    starting(count, arguments);
    substitutes();
    shims();
    return 5;
}
