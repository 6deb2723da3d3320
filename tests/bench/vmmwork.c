/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs one guest on libsmolvm-vmm, its serial line on standard output, until it ends: what QEMU's
 * command line is for the guests that it is compared with.
 *
 *     vmmwork [-m MIB] [-c CPUS] [-d DISK]... [-f FOLDER] [-n SOCKET] [-v SOCKET]
 *             KERNEL INITRAMFS APPEND
 *
 * -f: a shared folder with the tag "share". -n: a network card on a passt that listens there.
 * -v: a socket to listen on, where "CONNECT <port>\n" opens a stream to the guest's vsock.
 * At the end one line on standard error: "vmmwork" and what smolvm_vmm_timeline() and
 * smolvm_vmm_counters() say: load_ns run_ns driver_ns end_ns exits, times since start().
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <smolvm/vmm.h>

static struct smolvm_error error = SMOLVM_ERROR_INIT;

static void die(const char *what)
{
	fprintf(stderr, "vmmwork: %s: %s\n", what,
		error.message[0] ? error.message : strerror(errno));
	exit(1);
}

static void need(int rc, const char *what)
{
	if (rc < 0)
		die(what);
}

static int unix_socket(const char *path, int listening)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || (listening ? bind : connect)(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die(path);
	if (listening && listen(fd, 64) < 0)
		die(path);
	return fd;
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

/* One client's line, then the machine has the descriptor. */
static void join(struct smolvm_vmm *vmm, int fd)
{
	char line[32] = "", greeting[40];
	size_t n = 0;

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
		n++;
	if (strncmp(line, "CONNECT ", 8)) {
		close(fd);
		return;
	}
	line[n] = '\0';
	snprintf(greeting, sizeof(greeting), "OK %.20s\n", line + 8);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	need(smolvm_vmm_vsock_connect(vmm, (uint32_t)strtoul(line + 8, NULL, 10), fd, greeting,
				      &error), "vsock");
}

static void serve(struct smolvm_vmm *vmm, int listener)
{
	struct pollfd p[2] = { { smolvm_vmm_exit_fd(vmm), POLLIN, 0 }, { listener, POLLIN, 0 } };

	while (poll(p, 2, -1) >= 0 && !p[0].revents)
		if (p[1].revents)
			join(vmm, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static void *map_file(const char *path, size_t *ret_bytes)
{
	int fd = open_file(path, O_RDONLY);
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		die(path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		die(path);
	close(fd);
	*ret_bytes = (size_t)st.st_size;
	return p;
}

static void report(struct smolvm_vmm *vmm)
{
	struct smolvm_vmm_timeline t;
	struct smolvm_vmm_counters c;

	smolvm_vmm_timeline(vmm, &t);
	smolvm_vmm_counters(vmm, &c);
	fprintf(stderr, "vmmwork %lld %lld %lld %lld %llu\n", (long long)(t.loaded - t.start),
		(long long)(t.run - t.start), (long long)(t.driver - t.start),
		(long long)(t.end - t.start), (unsigned long long)c.exits);
}

static void usage(void)
{
	fprintf(stderr, "usage: vmmwork [OPTIONS] KERNEL INITRAMFS APPEND\n");
	exit(2);
}

int main(int argc, char **argv)
{
	struct smolvm_vmm_disk disks[8] = { 0 };
	struct smolvm_vmm_config config = { .memory_mib = 1024, .serial_fd = 1 };
	const char *folder = NULL, *net = NULL;
	struct smolvm_vmm *vmm;
	struct smolvm_vmm_exit end;
	int n_disks = 0, listener = -1, c;

	while ((c = getopt(argc, argv, "m:c:d:f:n:v:")) != -1) {
		if (c == 'm')
			config.memory_mib = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'c')
			config.cpus = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'd' && n_disks < 8)
			disks[n_disks++].fd = open_file(optarg, O_RDWR);
		else if (c == 'f')
			folder = optarg;
		else if (c == 'n')
			net = optarg;
		else if (c == 'v')
			listener = unix_socket(optarg, 1);
		else
			usage();
	}
	if (argc - optind != 3)
		usage();
	config.kernel_fd = open_file(argv[optind], O_RDONLY);
	config.initramfs = map_file(argv[optind + 1], &config.initramfs_bytes);
	config.cmdline = argv[optind + 2];
	need(smolvm_vmm_create(&vmm, &config, &error), "create");
	for (int i = 0; i < n_disks; i++)
		need(smolvm_vmm_add_disk(vmm, &disks[i], &error), "disk");
	if (folder)
		need(smolvm_vmm_add_fs(vmm, &(struct smolvm_vmm_fs){
			.root_fd = open_file(folder, O_PATH), .tag = "share" }, &error), "folder");
	if (net)
		need(smolvm_vmm_add_net(vmm, &(struct smolvm_vmm_net){ .fd = unix_socket(net, 0) },
					&error), "net");
	if (listener >= 0)
		need(smolvm_vmm_add_vsock(vmm, &(struct smolvm_vmm_vsock){ 0 }, &error), "vsock");
	need(smolvm_vmm_start(vmm, &error), "start");
	if (listener >= 0)
		serve(vmm, listener);
	need(smolvm_vmm_wait(vmm, -1, &end, &error), "wait");
	report(vmm);
	smolvm_vmm_destroy(vmm);
	return 0;
}
