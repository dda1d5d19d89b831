// Lets the loader of an older system start a program that refers to symbol versions which its C library lacks. The program itself
// then says what it needs (Sources/C/Shims/entry.c); on a system that has the versions nothing changes.
//
//   optional-versions FILE...      rewrites each 64-bit ELF file in place
//
// 1. Every version newer than GLIBC_2.17 is marked as one that may be missing. A linker does so only when no reference needs it.
// 2. The loader looks up what is called only when it is called, but what is referred to otherwise at once. That is __libc_start_main, in a
//    _start where no program of ours begins: this reference is taken out. Where a linker (lld on arm64) leaves addresses in tables to
//    the loader, it is also what these tables hold: such a symbol becomes weak, for which the loader of glibc 2.31 takes nothing
//    where it finds nothing. Our tables hold no such addresses where the linker can do without (gold).

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// Whatever processor we build for, its first C library has this version.
enum { everywhere = 17 };

static void refuse(const char *name, const char *why) {
    fprintf(stderr, "optional-versions: '%s' %s\n", name, why);
    exit(1);
}

// Marks the newer versions, and notes their numbers.
static void mark(char *file, const Elf64_Shdr *needed, const char *strings, char *newer) {
    char *library = file + needed->sh_offset;
    for (unsigned i = 0; i < needed->sh_info; i++) {
        char *version = library + ((Elf64_Verneed *)library)->vn_aux;
        for (unsigned k = 0; k < ((Elf64_Verneed *)library)->vn_cnt; k++) {
            Elf64_Vernaux *entry = (void *)version;
            int minor;
            if (sscanf(strings + entry->vna_name, "GLIBC_2.%d", &minor) == 1 && minor > everywhere) {
                entry->vna_flags |= VER_FLG_WEAK;
                newer[entry->vna_other & 0x7FFF] = 1;
            }
            version += entry->vna_next;
        }
        library += ((Elf64_Verneed *)library)->vn_next;
    }
}

// Takes the reference of _start out of a table of relocations that are carried out at once, and makes the others there weak.
static void release(char *file, const Elf64_Shdr *table, const Elf64_Shdr *sections, const Elf64_Half *versions, const char *newer) {
    const Elf64_Shdr *symbols = &sections[table->sh_link];
    Elf64_Sym *symbol = (void *)(file + symbols->sh_offset);
    const char *strings = file + sections[symbols->sh_link].sh_offset;
    Elf64_Rela *entry = (void *)(file + table->sh_offset);
    for (size_t i = 0; i < table->sh_size / sizeof *entry; i++) {
        size_t index = ELF64_R_SYM(entry[i].r_info), type = ELF64_R_TYPE(entry[i].r_info);
        if (type == R_X86_64_JUMP_SLOT || type == R_AARCH64_JUMP_SLOT || !newer[versions[index] & 0x7FFF]) continue;
        if (strcmp(strings + symbol[index].st_name, "__libc_start_main") == 0)
            entry[i].r_info = ELF64_R_INFO(0, R_X86_64_NONE); // the same number for every processor
        else
            symbol[index].st_info = ELF64_ST_INFO(STB_WEAK, ELF64_ST_TYPE(symbol[index].st_info));
    }
}

int main(int count, char **names) {
    for (int n = 1; n < count; n++) {
        int descriptor = open(names[n], O_RDWR | O_CLOEXEC);
        struct stat status;
        if (descriptor < 0 || fstat(descriptor, &status) < 0) refuse(names[n], strerror(errno));
        size_t size = (size_t)status.st_size;
        char *file = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        if (file == MAP_FAILED) refuse(names[n], strerror(errno));
        const Elf64_Ehdr *header = (const void *)file;
        if (size < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS64)
            refuse(names[n], "is no 64-bit ELF file");
        const Elf64_Shdr *sections = (const void *)(file + header->e_shoff), *needed = 0, *versions = 0;
        for (int i = 0; i < header->e_shnum; i++) {
            if (sections[i].sh_type == SHT_GNU_verneed) needed = &sections[i];
            if (sections[i].sh_type == SHT_GNU_versym) versions = &sections[i];
        }
        if (!needed || !versions) refuse(names[n], "needs no versions, so it is no dynamically linked program");
        char newer[0x8000] = {0};
        mark(file, needed, file + sections[needed->sh_link].sh_offset, newer);
        for (int i = 0; i < header->e_shnum; i++)
            if (sections[i].sh_type == SHT_RELA && sections[i].sh_flags & SHF_ALLOC)
                release(file, &sections[i], sections, (const void *)(file + versions->sh_offset), newer);
        if (munmap(file, size) < 0 || close(descriptor) < 0) refuse(names[n], strerror(errno));
    }
    return 0;
}
