/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile guests, through the public library: the guest (hostile_guest.c) attacks every device and
 * the machine, and reports by lines of TAP on its serial port. Here is the other side: the devices'
 * host ends, and what a guest must not bring about: a machine that does not end, descriptors and
 * threads left behind, memory that grows, a read-only disk that changes, frames that are none.
 *
 *	hostile GUEST [SEED]
 *
 * One machine stands all of it; then several at once, some of it.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <smolvm/vmm.h>

#include "base/clock.h"
#include "hostile_guest.h"
#include "hypervisor/kvm_probe.h"

#define MACHINES     3
#define DISK_BYTES   (4u << 20)
#define LIMIT_MS     300000
#define LOOK_MS	     100
#define FRAME_MIN    14u
#define FRAME_MAX    65550u
#define HELD_MAX     64
/* What a machine may take beside its RAM: its devices, and what it holds for connections. */
#define BESIDE_KIB 8192

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/*
 * A machine and its surroundings. @serial: a file. @ports: of the console, read by nobody but the
 * drain. @net: the other end of the network. @held: host ends of vsock connections, never read.
 */
struct machine {
	struct smolvm_vmm *vmm;
	int serial, disks[2], ports[2], net;
	int held[HELD_MAX];
	unsigned int n_held;
	char folder[32], cmdline[32];
	pthread_t drain;
	int quit;
	unsigned long frames, bad_frames, bytes;
	size_t shown;
};

static FILE *out;
static unsigned int tests;
static bool failed;

static void ok(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void ok(bool good, const char *format, ...)
{
	va_list ap;

	failed |= !good;
	fprintf(out, "%s %u - ", good ? "ok" : "not ok", ++tests);
	va_start(ap, format);
	vfprintf(out, format, ap);
	va_end(ap);
	fprintf(out, "\n");
	fflush(out);
}

static void die(const char *what)
{
	fprintf(out, "Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

static int check(int fd, const char *what)
{
	if (fd < 0)
		die(what);
	return fd;
}

/* ---- the devices' other ends ---- */

/* Frames that come are looked at and go back, as far as there is room. */
struct echo {
	uint8_t in[4 + FRAME_MAX], back[4 + FRAME_MAX];
	size_t in_len, back_at, back_len;
};

static void send_back(struct machine *m, struct echo *e)
{
	ssize_t n = send(m->net, e->back + e->back_at, e->back_len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n > 0) {
		e->back_at += (size_t)n;
		e->back_len -= (size_t)n;
	}
}

static void take_frames(struct machine *m, struct echo *e)
{
	for (;;) {
		uint32_t be, len;

		if (e->in_len < sizeof(be))
			return;
		memcpy(&be, e->in, sizeof(be));
		len = ntohl(be);
		if (len < FRAME_MIN || len > FRAME_MAX) {
			m->bad_frames++;
			e->in_len = 0;
			return;
		}
		if (e->in_len < sizeof(be) + len)
			return;
		m->frames++;
		if (!e->back_len) {
			memcpy(e->back, e->in, sizeof(be) + len);
			e->back_at = 0;
			e->back_len = sizeof(be) + len;
			send_back(m, e);
		}
		e->in_len -= sizeof(be) + len;
		memmove(e->in, e->in + sizeof(be) + len, e->in_len);
	}
}

static void *drain(void *arg)
{
	struct machine *m = arg;
	struct echo *e = calloc(1, sizeof(*e));
	struct pollfd fds[] = { { m->quit, POLLIN, 0 }, { m->net, POLLIN, 0 },
				{ m->ports[0], POLLIN, 0 }, { m->ports[1], POLLIN, 0 } };
	static char sink[65536]; /* nobody reads it */

	while (e && poll(fds, 4, -1) >= 0 && !fds[0].revents) {
		if (fds[1].revents) {
			ssize_t n = recv(m->net, e->in + e->in_len, sizeof(e->in) - e->in_len,
					 MSG_DONTWAIT);

			if (n > 0)
				e->in_len += (size_t)n;
			if (n == 0)
				fds[1].fd = -1;
			take_frames(m, e);
		}
		if (e->back_len)
			send_back(m, e);
		fds[1].events = (short)(POLLIN | (e->back_len ? POLLOUT : 0));
		for (int i = 2; i < 4; i++) {
			ssize_t n = fds[i].revents ? read(fds[i].fd, sink, sizeof(sink)) : 1;

			if (n == 0)
				fds[i].fd = -1;
		}
	}
	free(e);
	return NULL;
}

/* Port 1 refuses, 2 takes and never reads, 3 is gone at once. In the I/O thread. */
static int incoming(void *ctx, uint32_t port)
{
	struct machine *m = ctx;
	int pair[2], *held = &m->held[m->n_held % HELD_MAX];

	if (port == 1)
		return -ECONNREFUSED;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	if (port == 3) {
		close(pair[1]);
		return pair[0];
	}
	if (*held > 0)
		close(*held);
	*held = pair[1];
	m->n_held++;
	return pair[0];
}

/* ---- a machine ---- */

static int make_disk(char fill)
{
	int fd = check(memfd_create("disk", MFD_CLOEXEC), "memfd_create");
	char *p = malloc(DISK_BYTES);

	if (!p)
		die("malloc");
	memset(p, fill, DISK_BYTES);
	if (pwrite(fd, p, DISK_BYTES, 0) != DISK_BYTES)
		die("disk");
	free(p);
	return fd;
}

static bool disk_is(int fd, char fill)
{
	static char p[65536];
	bool same = lseek(fd, 0, SEEK_END) == DISK_BYTES;

	for (off_t at = 0; at < DISK_BYTES && same; at += (off_t)sizeof(p)) {
		same = pread(fd, p, sizeof(p), at) == sizeof(p);
		for (size_t i = 0; i < sizeof(p); i++)
			same &= p[i] == fill;
	}
	return same;
}

static int copy_of(int fd)
{
	return check(fcntl(fd, F_DUPFD_CLOEXEC, 3), "dup");
}

static int add_devices(struct machine *m, struct smolvm_error *err)
{
	struct smolvm_vmm_console console = { .n_ports = 2 };
	int net[2], port[2], root, r;

	m->disks[0] = make_disk('w');
	m->disks[1] = make_disk('r');
	r = smolvm_vmm_add_disk(m->vmm, &(struct smolvm_vmm_disk){ .fd = copy_of(m->disks[0]) },
				err);
	if (!r)
		r = smolvm_vmm_add_disk(m->vmm, &(struct smolvm_vmm_disk){
			.fd = copy_of(m->disks[1]), .read_only = 1 }, err);
	for (int i = 0; i < 2; i++) {
		check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, port), "socketpair");
		console.ports[i].name = i ? "second" : NULL;
		console.ports[i].in_fd = console.ports[i].out_fd = port[0];
		m->ports[i] = port[1];
	}
	if (!r)
		r = smolvm_vmm_add_console(m->vmm, &console, err);
	if (!r)
		r = smolvm_vmm_add_vsock(m->vmm, &(struct smolvm_vmm_vsock){
			.incoming = incoming, .ctx = m }, err);
	strcpy(m->folder, "/tmp/hostile-XXXXXX");
	if (!mkdtemp(m->folder))
		die("mkdtemp");
	root = check(open(m->folder, O_PATH | O_DIRECTORY | O_CLOEXEC), m->folder);
	if (!r)
		r = smolvm_vmm_add_fs(m->vmm, &(struct smolvm_vmm_fs){ root, "share", 0 }, err);
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, net), "socketpair");
	m->net = net[1];
	if (!r)
		r = smolvm_vmm_add_net(m->vmm, &(struct smolvm_vmm_net){ .fd = net[0] }, err);
	if (!r)
		r = smolvm_vmm_add_rng(m->vmm, err);
	return r ? r : smolvm_vmm_add_balloon(m->vmm, err);
}

static void machine_start(struct machine *m, int kernel, unsigned int seed, bool quick)
{
	struct smolvm_vmm_config config = { .cpus = 2, .memory_mib = RAM_MIB, .kernel_fd = kernel };
	struct smolvm_error err = SMOLVM_ERROR_INIT;

	*m = (struct machine){ .serial = check(memfd_create("serial", MFD_CLOEXEC), "serial") };
	m->quit = check(eventfd(0, EFD_CLOEXEC), "eventfd");
	snprintf(m->cmdline, sizeof(m->cmdline), "%u%s", seed, quick ? "q" : "");
	config.cmdline = m->cmdline;
	config.serial_fd = m->serial;
	if (smolvm_vmm_create(&m->vmm, &config, &err) || add_devices(m, &err) ||
	    smolvm_vmm_start(m->vmm, &err)) {
		fprintf(out, "Bail out! %s\n", err.message);
		exit(1);
	}
}

/* Pass on whole lines that the guest has written since. */
static void show_lines(struct machine *m, unsigned int which, unsigned int *good)
{
	char line[256];
	ssize_t n;

	while ((n = pread(m->serial, line, sizeof(line) - 1, (off_t)m->shown)) > 0) {
		char *end;

		line[n] = '\0';
		end = strchr(line, '\n');
		if (!end)
			return;
		*end = '\0';
		m->shown += (size_t)(end - line) + 1;
		end = strstr(line, " - ");
		if (strncmp(line, "ok ", 3) == 0 && end) {
			ok(true, "machine %u: %s", which, end + 3);
			(*good)++;
		} else if (strncmp(line, "1..", 3) == 0) {
			ok(*good == strtoul(line + 3, NULL, 10), "machine %u: %u of %s attacks",
			   which, *good, line + 3);
		} else {
			ok(false, "machine %u: %s", which, end ? end + 3 : line);
		}
	}
}

/* ---- what is left, and what is taken ---- */

static unsigned int entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned int n = 0;

	if (!d)
		die(path);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Memory of this process in KiB, but for the guests' RAM: that is not for core files ("dd"). */
static unsigned long beside_kib(void)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long sum = 0, rss = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Rss: %lu", &rss) == 1)
			continue;
		if (strncmp(line, "VmFlags:", 8) == 0 && !strstr(line, " dd"))
			sum += rss;
	}
	if (f)
		fclose(f);
	return sum;
}

static void remove_folder(const char *path)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", path);
	if (system(command) != 0)
		ok(false, "%s cannot be removed", path);
}

static void machine_end(struct machine *m, unsigned int which)
{
	struct smolvm_vmm_counters c;
	uint64_t one = 1;

	smolvm_vmm_counters(m->vmm, &c);
	fprintf(out, "# machine %u: %llu exits, %llu notifications, %llu resets asked for, "
		"%lu frames\n", which, (unsigned long long)c.exits, (unsigned long long)c.notifies,
		(unsigned long long)c.device_errors, m->frames);
	smolvm_vmm_destroy(m->vmm);
	if (write(m->quit, &one, sizeof(one)) < 0)
		die("quit");
	ok(disk_is(m->disks[1], 'r'), "machine %u: the read-only disk is as it was", which);
	ok(m->bad_frames == 0, "machine %u: whole frames only", which);
	for (int i = 0; i < 2; i++) {
		close(m->disks[i]);
		close(m->ports[i]);
	}
	for (int i = 0; i < HELD_MAX; i++)
		if (m->held[i] > 0)
			close(m->held[i]);
	close(m->net);
	close(m->serial);
	close(m->quit);
	remove_folder(m->folder);
}

static void run(int kernel, unsigned int n, unsigned int seed)
{
	static struct machine machines[MACHINES];
	unsigned int fds = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	unsigned int good[MACHINES] = { 0 }, running = n;
	unsigned long before = beside_kib(), most = before;
	int64_t limit = clock_ms() + LIMIT_MS * n;
	bool ended[MACHINES] = { false };

	for (unsigned int i = 0; i < n; i++)
		machine_start(&machines[i], kernel, seed + i, n > 1);
	for (unsigned int i = 0; i < n; i++)
		if (pthread_create(&machines[i].drain, NULL, drain, &machines[i]))
			die("thread");
	while (running && clock_ms() < limit) {
		unsigned long now = beside_kib();

		most = now > most ? now : most;
		for (unsigned int i = 0; i < n; i++) {
			struct smolvm_vmm_exit end;
			int r = ended[i] ? 0 :
					   smolvm_vmm_wait(machines[i].vmm, LOOK_MS, &end, NULL);

			show_lines(&machines[i], i, &good[i]);
			if (ended[i] || r)
				continue;
			ended[i] = true;
			running--;
			ok(end.reason == SMOLVM_VMM_RESET, "machine %u: %s", i, end.text);
		}
	}
	ok(running == 0, "all have come to their end");
	for (unsigned int i = 0; i < n; i++)
		machine_end(&machines[i], i);
	for (unsigned int i = 0; i < n; i++)
		pthread_join(machines[i].drain, NULL);
	fprintf(out, "# %lu KiB beside the guests' RAM, %lu before\n", most, before);
	ok(SANITIZED || most - before < n * BESIDE_KIB, "memory stays bounded");
	ok(entries("/proc/self/fd") == fds, "no descriptor is left");
	ok(entries("/proc/self/task") == threads, "no thread is left");
}

int main(int argc, char **argv)
{
	unsigned int seed = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10) : 0;
	enum kvm_state kvm = kvm_probe();
	int kernel, said;

	for (int i = 0; i < 10 && kvm == KVM_EMULATING; i++)
		kvm = kvm_probe(); /* a busy host may look like that for a while */
	if (kvm != KVM_FINE) {
		printf("1..0 # SKIP %s\n", kvm_state_text(kvm));
		return 0;
	}
	out = fdopen(copy_of(1), "w");
	if (!out || argc < 2)
		return 2;
	kernel = check(open(argv[1], O_RDONLY | O_CLOEXEC), argv[1]);
	said = check(memfd_create("said", MFD_CLOEXEC), "memfd_create");
	fflush(stdout);
	/* Sanitizers have their say: to the standard error. */
	if (dup2(said, 1) < 0 || (!SANITIZED && dup2(said, 2) < 0))
		die("dup2");
	run(kernel, 1, seed);
	run(kernel, MACHINES, seed + 1);
	ok(lseek(said, 0, SEEK_END) == 0, "the library prints nothing");
	fprintf(out, "1..%u\n", tests);
	fclose(out);
	close(said);
	close(kernel);
	return failed;
}
