// What our static libraries take from a newer C library than the oldest one that we run on; and what they refer to in a way that
// the loader looks up at once, so that an older one would be refused by it and not by our own check (entry.c). Hidden, so that
// libraries which are loaded later go on using the system's.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OURS __attribute__((visibility("hidden")))

// Since 2.36. The C++ library refers to it for its random_device, which nobody makes.
OURS uint32_t arc4random(void) {
    uint32_t value = 0;
    while (getrandom(&value, sizeof value, 0) != sizeof value) {}
    return value;
}

// Since 2.35 under a version of its own. Swift refers to it for complex numbers, which nobody computes with. In double precision
// the squares of two floats neither overflow nor vanish.
OURS float hypotf(float x, float y) {
    if (isinf(x) || isinf(y)) return INFINITY;
    return (float)__builtin_sqrt((double)x * x + (double)y * y);
}

struct search {
    uintptr_t address;
    struct dl_find_object *found;
};

// ends the walk with 1 when the object contains the address.
static int contains(struct dl_phdr_info *object, size_t size, void *data) {
    (void)size;
    struct search *search = data;
    const ElfW(Phdr) *match = 0, *frames = 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD && search->address >= start && search->address - start < header->p_memsz) match = header;
        if (header->p_type == PT_GNU_EH_FRAME) frames = header;
    }
    if (!match) return 0;
    search->found->dlfo_map_start = (void *)(object->dlpi_addr + match->p_vaddr);
    search->found->dlfo_map_end = (void *)(object->dlpi_addr + match->p_vaddr + match->p_memsz);
    search->found->dlfo_eh_frame = frames ? (void *)(object->dlpi_addr + frames->p_vaddr) : 0;
    return 1;
}

// Since 2.35. The unwinder of the C++ library asks it where an address' frame descriptions are.
OURS int _dl_find_object(void *address, struct dl_find_object *result) {
    struct search search = {(uintptr_t)address, result};
    *result = (struct dl_find_object){0};
    return dl_iterate_phdr(contains, &search) == 1 ? 0 : -1;
}

// Since 2.32: whether there is only one thread yet, for which the C++ library counts references without atomic instructions.
OURS char __libc_single_threaded = 0;

// The C++ library asks by it whether the program can have threads.
OURS int __pthread_key_create(pthread_key_t *key, void (*end)(void *)) { return pthread_key_create(key, end); }

// Since 2.25. OpenSSL prefers it where it is there.
OURS int getentropy(void *bytes, size_t size) {
    return syscall(SYS_getrandom, bytes, size, 0) == (long)size ? 0 : -1;
}
