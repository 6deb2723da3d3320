/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel in a virtual machine of its own, with libsmolvm-vmm; what it prints to its serial port
 * comes out here:
 *
 *	cc embed.c $(pkg-config --cflags --libs smolvm-vmm) -o embed
 *	./embed vmlinux [COMMAND-LINE [CPUS [MEMORY-MIB [INITRAMFS]]]]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <smolvm/vmm.h>

static const void *map_file(const char *path, size_t *bytes)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st))
		return NULL;
	*bytes = (size_t)st.st_size;
	p = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

int main(int argc, char **argv)
{
	struct smolvm_vmm_config config = {
		.cmdline = argc > 2 ? argv[2] : "console=ttyS0 panic=-1 reboot=t",
		.cpus = argc > 3 ? (unsigned int)strtoul(argv[3], NULL, 10) : 1,
		.memory_mib = argc > 4 ? (unsigned int)strtoul(argv[4], NULL, 10) : 256,
		.serial_fd = 1,
	};
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm_vmm_counters count;
	struct smolvm_vmm *vmm = NULL;
	struct smolvm_vmm_exit end;
	int failed;

	config.kernel_fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	if (argc > 5)
		config.initramfs = map_file(argv[5], &config.initramfs_bytes);
	failed = smolvm_vmm_create(&vmm, &config, &err) || smolvm_vmm_start(vmm, &err) ||
		 smolvm_vmm_wait(vmm, -1, &end, &err);
	if (failed) {
		fprintf(stderr, "embed: %s\n", err.message);
	} else {
		smolvm_vmm_counters(vmm, &count);
		fprintf(stderr, "embed: %s, after %llu exits\n", end.text,
			(unsigned long long)count.exits);
	}
	smolvm_vmm_destroy(vmm);
	return failed ? 125 : 0;
}
