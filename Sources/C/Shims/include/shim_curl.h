// libcurl, loaded on use: linking it costs 5 ms of every start. No policy; the only state is the table of resolved
// functions.
#ifndef LLM_GATEWAY_SHIM_CURL_H
#define LLM_GATEWAY_SHIM_CURL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// Resolves libcurl.so.4 and initialises it. NULL when that worked, else why not: a text that lives until the
/// thread's next dlopen(3). Not to be called by two threads at once.
const char *_Nullable shim_curl_load(void);

/// Bytes of the text that `error_text` points to.
#define SHIM_CURL_ERROR_SIZE 256

/// One request. Texts are copied, `body`, `error_text` and `context` must live as long as the transfer.
struct shim_curl_request {
    const char *url;
    const char *method;
    const void *_Nullable body;
    size_t body_size;
    /// Header lines, `Name: value`.
    const char *_Nonnull const *_Nullable lines;
    size_t line_count;
    const char *user_agent;
    /// A file and a directory of certificate authorities; NULL means the library's.
    const char *_Nullable ca_file;
    const char *_Nullable ca_directory;
    /// The proxy, empty for none, and the hosts that it is not for, with commas between.
    const char *proxy;
    const char *no_proxy;
    long connect_milliseconds;
    /// 0: no limit.
    long total_milliseconds;
    /// Seconds without a byte after which the transfer is given up.
    long stall_seconds;
    char *error_text;
    void *context;
    /// Takes a header line or body bytes; any other count than the given one ends the transfer.
    size_t (*_Nonnull header)(const char *bytes, size_t one, size_t count, void *context);
    size_t (*_Nonnull write)(const char *bytes, size_t one, size_t count, void *context);
};

/// What is known of a transfer.
struct shim_curl_state {
    bool is_done;
    /// CURLcode once done.
    int result;
    long status;
    long os_error;
    /// Where a redirect leads; lives as long as the transfer.
    const char *_Nullable redirect;
};

/// What the messages distinguish of CURLcode.
enum shim_curl_result {
    shim_curl_ok = 0,
    shim_curl_unsupported_protocol = 1,
    shim_curl_malformed_url = 3,
    shim_curl_no_proxy = 5,
    shim_curl_no_host = 6,
    shim_curl_no_connection = 7,
    shim_curl_partial = 18,
    shim_curl_write_refused = 23,
    shim_curl_timed_out = 28,
    shim_curl_tls_handshake = 35,
    shim_curl_empty_answer = 52,
    shim_curl_send_failed = 55,
    shim_curl_receive_failed = 56,
    shim_curl_certificate_refused = 60,
    shim_curl_authorities_unreadable = 77,
};

struct shim_curl_transfer {
    void *_Nullable multi;
    void *_Nullable easy;
    void *_Nullable lines;
};

/// Prepares a transfer; 0 or a CURLcode. `end` must be called in both cases.
int shim_curl_begin(struct shim_curl_transfer *transfer, const struct shim_curl_request *request);
/// Does what can be done without waiting.
struct shim_curl_state shim_curl_step(const struct shim_curl_transfer *transfer);
/// Waits for traffic, a timer of the library, `shim_curl_wake`, or a minute.
void shim_curl_wait(const struct shim_curl_transfer *transfer);
/// Ends a wait, from any thread.
void shim_curl_wake(void *multi);
void shim_curl_end(struct shim_curl_transfer *transfer);
/// The library's words for a CURLcode.
const char *shim_curl_words(int result);

#pragma clang assume_nonnull end
#endif
