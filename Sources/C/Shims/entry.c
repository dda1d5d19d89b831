// What runs before the C library starts the program: the check that the C library is new enough.
//
// The loader refuses a program that refers to symbol versions it does not know, in words that only an expert understands. So a
// release marks those as ones that may be missing (releases/optional-versions.c), which lets the loader pass after a remark about
// each, and starts here (productLinking in Package.swift) instead of at _start, which refers to the first of them at once. Only
// functions of the very first C libraries are called before the check.

#include <gnu/libc-version.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

// The oldest release 2.x that has all that the programs use: Product.oldestGlibc. releases/build compares the two.
#define OLDEST_GLIBC_MINOR 34

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

static void say(const char *text) {
    size_t rest = strlen(text);
    while (rest > 0) {
        ssize_t written = write(STDERR_FILENO, text, rest);
        if (written <= 0) return;
        text += written;
        rest -= (size_t)written;
    }
}

__attribute__((used, visibility("hidden"), no_stack_protector)) void shim_check_c_library(void) {
    const char *version = gnu_get_libc_version();
    int minor = 0;
    if (strncmp(version, "2.", 2) != 0) return;
    for (const char *digit = version + 2; *digit >= '0' && *digit <= '9'; digit++) minor = minor * 10 + (*digit - '0');
    if (minor >= OLDEST_GLIBC_MINOR) return;
    say("error: this system has glibc ");
    say(version);
    say(", and llm-cli-gateway needs 2." TEXT(OLDEST_GLIBC_MINOR) " or newer\n"
        "help: use Debian 12, Ubuntu 22.04, RHEL 9, or any newer distribution\n");
    _exit(1);
}

// What _start does, but through the procedure linkage table: what that names is looked up only when it is called.
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl shim_entry\n"
        ".type shim_entry, @function\n"
        "shim_entry:\n"
        "  xor %ebp, %ebp\n"
        "  mov %rdx, %r12\n" // the loader's end function
        "  call shim_check_c_library\n"
        "  mov %r12, %r9\n"
        "  pop %rsi\n"       // the number of arguments
        "  mov %rsp, %rdx\n" // the arguments
        "  and $-16, %rsp\n"
        "  push %rax\n"
        "  push %rsp\n"      // where the stack ends
        "  xor %r8d, %r8d\n"
        "  xor %ecx, %ecx\n"
        "  lea main(%rip), %rdi\n"
        "  call __libc_start_main@PLT\n"
        "  hlt\n"
        ".size shim_entry, . - shim_entry\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl shim_entry\n"
        ".type shim_entry, %function\n"
        "shim_entry:\n"
        "  mov x29, #0\n"
        "  mov x30, #0\n"
        "  mov x19, x0\n"    // the loader's end function
        "  bl shim_check_c_library\n"
        "  mov x5, x19\n"
        "  ldr x1, [sp]\n"   // the number of arguments
        "  add x2, sp, #8\n" // the arguments
        "  mov x6, sp\n"     // where the stack ends
        "  adrp x0, main\n"
        "  add x0, x0, :lo12:main\n"
        "  mov x3, #0\n"
        "  mov x4, #0\n"
        "  bl __libc_start_main\n"
        "  brk #0\n"
        ".size shim_entry, . - shim_entry\n");
#endif
