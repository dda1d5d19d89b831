#define _GNU_SOURCE
#include "shim_microhttpd.h"

#include <dlfcn.h>
#include <microhttpd.h>
#include <string.h>

#define EACH_FUNCTION(use)                                                                                         \
    use(MHD_start_daemon) use(MHD_stop_daemon) use(MHD_quiesce_daemon) use(MHD_suspend_connection)                  \
    use(MHD_resume_connection) use(MHD_get_connection_info) use(MHD_get_connection_values_n)                        \
    use(MHD_create_response_from_buffer) use(MHD_create_response_from_callback) use(MHD_add_response_header)        \
    use(MHD_queue_response) use(MHD_destroy_response)

static struct {
    void *library;
#define DECLARE(name) __typeof__(&name) name;
    EACH_FUNCTION(DECLARE)
} mhd;

const char *shim_mhd_load(const char *path) {
    if (mhd.library) return NULL;
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) library = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
    if (!library) return dlerror();
#define RESOLVE(name)                                                                                              \
    mhd.name = (__typeof__(&name))dlsym(library, #name);                                                           \
    if (!mhd.name) {                                                                                               \
        dlclose(library);                                                                                          \
        return "it lacks " #name;                                                                                  \
    }
    EACH_FUNCTION(RESOLVE)
    mhd.library = library;
    return NULL;
}

static enum MHD_Result result_of(bool yes) { return yes ? MHD_YES : MHD_NO; }

static void *began(void *context, const char *uri, struct MHD_Connection *connection) {
    const struct shim_mhd_callbacks *callbacks = context;
    return callbacks->began(callbacks->context, uri, connection);
}

static enum MHD_Result access_handler(void *context, struct MHD_Connection *connection, const char *url,
                                      const char *method, const char *version, const char *bytes, size_t *size,
                                      void **request) {
    const struct shim_mhd_callbacks *callbacks = context;
    return result_of(callbacks->access(*request, connection, method, bytes, size));
}

static void completed(void *context, struct MHD_Connection *connection, void **request,
                      enum MHD_RequestTerminationCode code) {
    const struct shim_mhd_callbacks *callbacks = context;
    callbacks->completed(*request, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    *request = NULL;
}

static void notified(void *context, struct MHD_Connection *connection, void **value,
                     enum MHD_ConnectionNotificationCode code) {
    const struct shim_mhd_callbacks *callbacks = context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *value = callbacks->opened(callbacks->context, info ? info->connect_fd : -1);
    } else {
        callbacks->closed(callbacks->context, *value);
        *value = NULL;
    }
}

/// The path stays as it was received: decoding is the router's.
static size_t leave_escaped(void *context, struct MHD_Connection *connection, char *text) { return strlen(text); }

struct MHD_Daemon *shim_mhd_start(const struct shim_mhd_options *options,
                                  const struct shim_mhd_callbacks *callbacks) {
    void *context = (void *)callbacks;
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_LISTEN_SOCKET, options->socket, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, options->connection_limit, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)options->connection_memory, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, options->idle_seconds, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)began, context},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_escaped, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)completed, context},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)notified, context},
        // A pool of one would only add a thread that waits for the other.
        {options->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, options->threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    return mhd.MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                                access_handler, context, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
}

void shim_mhd_quiesce(struct MHD_Daemon *daemon) { mhd.MHD_quiesce_daemon(daemon); }
void shim_mhd_stop(struct MHD_Daemon *daemon) { mhd.MHD_stop_daemon(daemon); }
void shim_mhd_suspend(struct MHD_Connection *connection) { mhd.MHD_suspend_connection(connection); }
void shim_mhd_resume(struct MHD_Connection *connection) { mhd.MHD_resume_connection(connection); }

void *shim_mhd_connection_value(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

struct visitor {
    void *context;
    void (*visit)(void *, const char *, size_t, const char *, size_t);
};

static enum MHD_Result visit(void *context, enum MHD_ValueKind kind, const char *name, size_t name_length,
                             const char *value, size_t value_length) {
    const struct visitor *visitor = context;
    visitor->visit(visitor->context, name, name_length, value, value_length);
    return MHD_YES;
}

void shim_mhd_each_field(struct MHD_Connection *connection, void *context,
                         void (*callback)(void *, const char *, size_t, const char *, size_t)) {
    struct visitor visitor = {context, callback};
    mhd.MHD_get_connection_values_n(connection, MHD_HEADER_KIND, visit, &visitor);
}

struct MHD_Response *shim_mhd_response_of_bytes(const void *bytes, size_t count) {
    return mhd.MHD_create_response_from_buffer(count, (void *)(bytes ? bytes : ""), MHD_RESPMEM_MUST_COPY);
}

struct MHD_Response *shim_mhd_response_of_stream(void *context,
                                                 ssize_t (*read)(void *, uint64_t, char *, size_t),
                                                 void (*release)(void *)) {
    return mhd.MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read, context, release);
}

bool shim_mhd_add_field(struct MHD_Response *response, const char *name, const char *value) {
    return mhd.MHD_add_response_header(response, name, value) == MHD_YES;
}

bool shim_mhd_queue(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response) {
    bool queued = mhd.MHD_queue_response(connection, status, response) == MHD_YES;
    mhd.MHD_destroy_response(response);
    return queued;
}
