/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that belong to smolvm itself, and kernels.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "machine/machine.h"

#define KERNEL_BYTES_MAX (1ll << 30)
#define SEGMENTS_MAX 64
#define NOTES_BYTES_MAX 65536
#define NOTE_PVH 18 /* of the name "Xen": where to enter the kernel, in 32-bit mode */

#if defined(__x86_64__)
#define HOST_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define HOST_MACHINE EM_AARCH64
#endif

char *program_file(const char *name)
{
	const char *dir = getenv("SMOLVM_LIBEXEC");
	char *path = dir && *dir ? path_join(dir, name) : path_of_program(name);

	if (!path)
		path = path_join(SMOLVM_LIBEXEC_DIR, name);
	if (path && access(path, R_OK) < 0) {
		free(path);
		path = NULL;
	}
	return path;
}

static bool is_bzimage(const unsigned char *head)
{
	return head[0x1fe] == 0x55 && head[0x1ff] == 0xaa && !memcmp(head + 0x202, "HdrS", 4);
}

#ifdef __x86_64__
static size_t round_up(size_t n, size_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* Whether there is a PVH entry point among the @len bytes of @notes. */
static bool notes_have_pvh(const unsigned char *notes, size_t len, size_t align)
{
	size_t at = 0;

	while (len - at >= sizeof(Elf64_Nhdr)) {
		const unsigned char *name = notes + at + sizeof(Elf64_Nhdr);
		size_t desc, end;
		Elf64_Nhdr note;

		memcpy(&note, notes + at, sizeof(note));
		if (note.n_namesz > len || note.n_descsz > len)
			return false;
		desc = round_up(at + sizeof(note) + note.n_namesz, align);
		end = desc + note.n_descsz;
		if (end > len)
			return false;
		if (note.n_type == NOTE_PVH && note.n_namesz == 4 && !memcmp(name, "Xen", 4) &&
		    note.n_descsz >= 4)
			return true;
		at = round_up(end, align);
		if (at > len)
			return false;
	}
	return false;
}

/* Whether the ELF file can be entered without a boot loader. */
static bool has_entry(int fd, const Elf64_Ehdr *elf)
{
	AUTO_FREE unsigned char *notes = malloc(NOTES_BYTES_MAX);
	bool found = false;

	if (!notes || elf->e_phentsize != sizeof(Elf64_Phdr) || elf->e_phoff > KERNEL_BYTES_MAX)
		return false;
	for (unsigned int i = 0; i < elf->e_phnum && i < SEGMENTS_MAX && !found; i++) {
		off_t at = (off_t)(elf->e_phoff + i * sizeof(Elf64_Phdr));
		Elf64_Phdr segment;
		size_t want;
		ssize_t n;

		if (fd_pread_full(fd, &segment, sizeof(segment), at) != (ssize_t)sizeof(segment))
			return false;
		if (segment.p_type != PT_NOTE || segment.p_offset > KERNEL_BYTES_MAX)
			continue;
		want = segment.p_filesz < NOTES_BYTES_MAX ? segment.p_filesz : NOTES_BYTES_MAX;
		n = fd_pread_full(fd, notes, want, (off_t)segment.p_offset);
		found = n > 0 && notes_have_pvh(notes, (size_t)n, segment.p_align == 8 ? 8 : 4);
	}
	return found;
}
#else
static bool has_entry(int fd, const Elf64_Ehdr *elf)
{
	return true;
}
#endif

/* Whether all of the ELF file's segments are in it, which has @bytes. */
static bool is_whole(int fd, const Elf64_Ehdr *elf, uint64_t bytes)
{
	if (elf->e_phoff > bytes || elf->e_phentsize != sizeof(Elf64_Phdr))
		return elf->e_phoff <= bytes;
	for (unsigned int i = 0; i < elf->e_phnum && i < SEGMENTS_MAX; i++) {
		off_t at = (off_t)(elf->e_phoff + i * sizeof(Elf64_Phdr));
		Elf64_Phdr segment;

		if (fd_pread_full(fd, &segment, sizeof(segment), at) != (ssize_t)sizeof(segment) ||
		    segment.p_offset > bytes || segment.p_filesz > bytes - segment.p_offset)
			return false;
	}
	return true;
}

static int check_elf(int fd, const Elf64_Ehdr *elf, uint64_t bytes, const char *path,
		     struct smolvm_error *err)
{
	const char *what = NULL;

	if (bytes < sizeof(*elf))
		return err_set(err, EINVAL, "the kernel %s is truncated", path);
	if (elf->e_machine != HOST_MACHINE)
		return err_set(err, EINVAL, "the kernel %s is for another kind of machine", path);
	if (elf->e_ident[EI_CLASS] != ELFCLASS64)
		what = "is a 32-bit one; a 64-bit one is needed";
	else if (elf->e_type != ET_EXEC && elf->e_type != ET_DYN)
		what = "is an object file";
	else if (!is_whole(fd, elf, bytes))
		what = "is truncated";
	if (what)
		return err_set(err, EINVAL, "the kernel %s %s", path, what);
	if (!has_entry(fd, elf))
		return err_set(err, EINVAL,
			       "%s is no kernel that can be booted directly: it has no PVH entry "
			       "point (CONFIG_PVH=y)",
			       path);
	return 0;
}

int kernel_check(const char *path, struct smolvm_error *err)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	unsigned char head[0x210] = { 0 };
	Elf64_Ehdr elf;
	struct stat st;

	if (fd < 0)
		return err_sys(err, "cannot open the kernel %s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "the kernel %s is not a regular file", path);
	if (st.st_size == 0)
		return err_set(err, EINVAL, "the kernel %s is an empty file", path);
	if (st.st_size > KERNEL_BYTES_MAX)
		return err_set(err, EFBIG, "the kernel %s is larger than 1 GiB", path);
	if (fd_read_full(fd, head, sizeof(head)) < 0)
		return err_sys(err, "cannot read the kernel %s", path);
	memcpy(&elf, head, sizeof(elf));
	if (!memcmp(elf.e_ident, ELFMAG, SELFMAG))
		return check_elf(fd, &elf, (uint64_t)st.st_size, path, err);
	if (!is_bzimage(head))
		return err_set(err, EINVAL, "%s is no kernel: a vmlinux (ELF) or bzImage is needed",
			       path);
	return 0;
}
