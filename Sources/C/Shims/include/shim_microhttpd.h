// libmicrohttpd, loaded on use: linking it would make every short command pay for gnutls. No policy; the only state
// is the table of resolved functions.
#ifndef LLM_GATEWAY_SHIM_MICROHTTPD_H
#define LLM_GATEWAY_SHIM_MICROHTTPD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#pragma clang assume_nonnull begin

struct MHD_Connection;
struct MHD_Daemon;
struct MHD_Response;

/// Resolves the library from `path` if given, else by its name. NULL when that worked, else why not: a text that
/// lives until the thread's next dlopen(3). Not to be called by two threads at once.
const char *_Nullable shim_mhd_load(const char *_Nullable path);

/// What a server calls. Everything is called on a thread of the server.
struct shim_mhd_callbacks {
    void *context;
    /// A request line came; returns the request's value, which the other calls get back.
    void *_Nullable (*_Nonnull began)(void *context, const char *uri, struct MHD_Connection *connection);
    /// Headers came (first call), body bytes came (`*size` > 0, to be set to 0), or the request is complete
    /// (`*size` is 0). False closes the connection.
    bool (*_Nonnull access)(void *_Nullable request, struct MHD_Connection *connection, const char *method,
                            const char *_Nullable bytes, size_t *size);
    /// The request is over. `whole` is false when the answer was not sent to its end.
    void (*_Nonnull completed)(void *_Nullable request, bool whole);
    /// A connection was accepted; returns the connection's value.
    void *_Nullable (*_Nonnull opened)(void *context, int descriptor);
    /// A connection ends; its descriptor is closed after this returns.
    void (*_Nonnull closed)(void *context, void *_Nullable connection);
};

/// How a server listens.
struct shim_mhd_options {
    /// A listening socket, non-blocking.
    int socket;
    unsigned int threads;
    unsigned int connection_limit;
    /// Bytes of header and transfer buffer for each connection.
    size_t connection_memory;
    /// Seconds without traffic after which a connection that is not suspended is closed; 0: never.
    unsigned int idle_seconds;
};

/// Starts a server; NULL with errno set when that failed. `callbacks` must live as long as the server.
struct MHD_Daemon *_Nullable shim_mhd_start(const struct shim_mhd_options *options,
                                            const struct shim_mhd_callbacks *callbacks);
/// Stops accepting. The listening socket stays open and is the caller's.
void shim_mhd_quiesce(struct MHD_Daemon *daemon);
/// Ends all connections and joins the threads. No connection may be suspended.
void shim_mhd_stop(struct MHD_Daemon *daemon);

/// Takes a connection out of the server's loop until it is resumed.
void shim_mhd_suspend(struct MHD_Connection *connection);
/// Puts a suspended connection back, from any thread.
void shim_mhd_resume(struct MHD_Connection *connection);
/// What `opened` returned for the connection.
void *_Nullable shim_mhd_connection_value(struct MHD_Connection *connection);
/// Calls back for each header field in order; the texts end with NUL and live as long as the request.
void shim_mhd_each_field(struct MHD_Connection *connection, void *context,
                         void (*visit)(void *context, const char *name, size_t name_length,
                                       const char *_Nullable value, size_t value_length));

/// A response from bytes, which are copied.
struct MHD_Response *_Nullable shim_mhd_response_of_bytes(const void *_Nullable bytes, size_t count);
/// A response of unknown length. `read` returns a count, 0 after it suspended the connection, -1 at the end and -2
/// to cut the connection; `release` is called once.
struct MHD_Response *_Nullable shim_mhd_response_of_stream(void *context,
                                                           ssize_t (*read)(void *context, uint64_t position,
                                                                           char *buffer, size_t size),
                                                           void (*release)(void *context));
/// Adds a field; false when name or value hold something that would break the header.
bool shim_mhd_add_field(struct MHD_Response *response, const char *name, const char *value);
/// Queues the response and gives up the caller's hold on it.
bool shim_mhd_queue(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response);

#pragma clang assume_nonnull end
#endif
