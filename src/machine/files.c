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
	if (st.st_size > KERNEL_BYTES_MAX)
		return err_set(err, EFBIG, "the kernel %s is larger than 1 GiB", path);
	if (fd_read_full(fd, head, sizeof(head)) < 0)
		return err_sys(err, "cannot read the kernel %s", path);
	memcpy(&elf, head, sizeof(elf));
	if (!memcmp(elf.e_ident, ELFMAG, SELFMAG)) {
		if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_machine != HOST_MACHINE)
			return err_set(err, EINVAL, "the kernel %s is for another kind of machine",
				       path);
		if (elf.e_type != ET_EXEC && elf.e_type != ET_DYN)
			return err_set(err, EINVAL, "%s is an object file and no kernel", path);
		return 0;
	}
	if (!is_bzimage(head))
		return err_set(err, EINVAL, "%s is no kernel: a vmlinux (ELF) or bzImage is needed",
			       path);
	return 0;
}
