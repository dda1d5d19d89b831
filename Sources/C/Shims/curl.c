#define _GNU_SOURCE
#define CURL_DISABLE_DEPRECATION
#define CURL_DISABLE_TYPECHECK
#include "shim_curl.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <string.h>

#define EACH_FUNCTION(use)                                                                                         \
    use(curl_global_init) use(curl_easy_init) use(curl_easy_setopt) use(curl_easy_getinfo) use(curl_easy_cleanup)   \
    use(curl_easy_strerror) use(curl_slist_append) use(curl_slist_free_all) use(curl_multi_init)                    \
    use(curl_multi_add_handle) use(curl_multi_remove_handle) use(curl_multi_perform) use(curl_multi_info_read)      \
    use(curl_multi_poll) use(curl_multi_wakeup) use(curl_multi_cleanup)

// curl.h defines function-like macros over these names; the parentheses and the trailing underscore keep clear.
static struct {
    void *library;
#define DECLARE(name) __typeof__(&(name)) name##_;
    EACH_FUNCTION(DECLARE)
} curl;

const char *shim_curl_load(void) {
    if (curl.library) return NULL;
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!library) return dlerror();
#define RESOLVE(name)                                                                                              \
    curl.name##_ = (__typeof__(&(name)))dlsym(library, #name);                                                     \
    if (!curl.name##_) {                                                                                           \
        dlclose(library);                                                                                          \
        return "it lacks " #name;                                                                                  \
    }
    EACH_FUNCTION(RESOLVE)
    if (curl.curl_global_init_(CURL_GLOBAL_DEFAULT) != CURLE_OK) return "it did not initialise";
    curl.library = library;
    return NULL;
}

int shim_curl_begin(struct shim_curl_transfer *transfer, const struct shim_curl_request *request) {
    struct curl_slist *lines = NULL;
    for (size_t index = 0; index < request->line_count; index++) {
        struct curl_slist *longer = curl.curl_slist_append_(lines, request->lines[index]);
        if (!longer) {
            curl.curl_slist_free_all_(lines);
            return CURLE_OUT_OF_MEMORY;
        }
        lines = longer;
    }
    transfer->lines = lines;
    transfer->multi = curl.curl_multi_init_();
    CURL *easy = transfer->easy = curl.curl_easy_init_();
    if (!transfer->multi || !easy) return CURLE_OUT_OF_MEMORY;
    CURLcode code = CURLE_OK;
#define SET(option, value)                                                                                         \
    if (code == CURLE_OK) code = curl.curl_easy_setopt_(easy, option, value)
    SET(CURLOPT_URL, request->url);
    // Redirects are followed by the caller, who knows what a safe one is.
    SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_HTTPHEADER, lines);
    SET(CURLOPT_USERAGENT, request->user_agent);
    SET(CURLOPT_CONNECTTIMEOUT_MS, request->connect_milliseconds);
    SET(CURLOPT_TIMEOUT_MS, request->total_milliseconds);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, request->stall_seconds);
    SET(CURLOPT_BUFFERSIZE, 128L << 10);
    SET(CURLOPT_ERRORBUFFER, request->error_text);
    SET(CURLOPT_HEADERFUNCTION, request->header);
    SET(CURLOPT_HEADERDATA, request->context);
    SET(CURLOPT_WRITEFUNCTION, request->write);
    SET(CURLOPT_WRITEDATA, request->context);
    if (request->ca_file) SET(CURLOPT_CAINFO, request->ca_file);
    if (request->ca_directory) SET(CURLOPT_CAPATH, request->ca_directory);
    SET(CURLOPT_PROXY, request->proxy);
    SET(CURLOPT_NOPROXY, request->no_proxy);
    if (strcmp(request->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (request->body) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
        SET(CURLOPT_POSTFIELDS, request->body);
    }
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        SET(CURLOPT_CUSTOMREQUEST, request->method);
    // Since 7.87; an older library then waits for its resolver's thread, which is only slow.
    curl.curl_easy_setopt_(easy, CURLOPT_QUICK_EXIT, 1L);
    if (code == CURLE_OK && curl.curl_multi_add_handle_(transfer->multi, easy) != CURLM_OK)
        code = CURLE_FAILED_INIT;
    return code;
}

struct shim_curl_state shim_curl_step(const struct shim_curl_transfer *transfer) {
    struct shim_curl_state state = {false, 0, 0, 0, NULL};
    int running = 0, left = 0;
    char *redirect = NULL;
    if (curl.curl_multi_perform_(transfer->multi, &running) != CURLM_OK) {
        state.is_done = true;
        state.result = CURLE_FAILED_INIT;
    }
    for (CURLMsg *message; (message = curl.curl_multi_info_read_(transfer->multi, &left));) {
        if (message->msg != CURLMSG_DONE) continue;
        state.is_done = true;
        state.result = message->data.result;
    }
    curl.curl_easy_getinfo_(transfer->easy, CURLINFO_RESPONSE_CODE, &state.status);
    curl.curl_easy_getinfo_(transfer->easy, CURLINFO_OS_ERRNO, &state.os_error);
    curl.curl_easy_getinfo_(transfer->easy, CURLINFO_REDIRECT_URL, &redirect);
    state.redirect = redirect;
    return state;
}

void shim_curl_wait(const struct shim_curl_transfer *transfer) {
    curl.curl_multi_poll_(transfer->multi, NULL, 0, 60000, NULL);
}

void shim_curl_wake(void *multi) { curl.curl_multi_wakeup_(multi); }

void shim_curl_end(struct shim_curl_transfer *transfer) {
    if (transfer->multi && transfer->easy) curl.curl_multi_remove_handle_(transfer->multi, transfer->easy);
    if (transfer->easy) curl.curl_easy_cleanup_(transfer->easy);
    if (transfer->multi) curl.curl_multi_cleanup_(transfer->multi);
    if (transfer->lines) curl.curl_slist_free_all_(transfer->lines);
    memset(transfer, 0, sizeof *transfer);
}

const char *shim_curl_words(int result) { return curl.curl_easy_strerror_(result); }
