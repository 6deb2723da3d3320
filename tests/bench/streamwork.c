/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures a byte channel whose far end echoes: smolvm's streams, or a bare virtio-serial port.
 *
 *     streamwork port FD JOBS...           a socket to QEMU's port, served by guest.c
 *     streamwork smolvm SOCKET JOBS...     a machine's socket
 *     streamwork vsock CID JOBS...         a machine's AF_VSOCK address, where the host has vhost
 *
 * Jobs, each printing one line "name p50_ns p99_ns" or "name bytes_per_s":
 *   rtt:STREAMS:N            single bytes, one under way on each stream, N of each
 *   echo:STREAMS:MIB         so many MiB altogether, all of which come back
 *   discard:STREAMS:MIB      so many MiB altogether, one way
 *
 * A bare port has one stream only: its sixteen are one, with sixteen bytes under way for "rtt".
 * One thread, one poll loop, the same pieces for both.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define STREAMS_MAX 64
#define PIECE	    65536
#define MIB	    (1ull << 20)
#define WARM_UP	    20
#define STUCK_MS    20000

enum { PORT_ECHO = 3, PORT_DISCARD = 4 };

struct end {
	bool bare;
	int fd;		    /* of the bare port */
	const char *socket; /* of the machine; its CID, with @vsock */
	bool vsock;
};

struct stream {
	int fd;
	uint64_t to_send, to_receive;
};

static uint8_t piece[PIECE], sink[PIECE];

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "streamwork: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void send_all(int fd, const void *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t sent = send(fd, (const char *)p + done, n - done, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			struct pollfd room = { .fd = fd, .events = POLLOUT };

			poll(&room, 1, STUCK_MS);
		} else if (sent < 0) {
			die("send");
		} else {
			done += (size_t)sent;
		}
	}
}

static void set_blocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, on ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

static void request_port(int fd, char operation, uint64_t n)
{
	char request[16] = { operation };

	memcpy(request + 8, &n, 8);
	send_all(fd, request, sizeof(request));
}

static int open_vsock(const char *cid, int port)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
				    .svm_cid = (unsigned int)strtoul(cid, NULL, 10),
				    .svm_port = (unsigned int)port };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("vsock");
	return fd;
}

/* Return: a socket joined with @port of the agent. */
static int open_stream(const struct end *e, int port)
{
	const char *path = e->socket;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char line[32], c = 0;

	if (e->vsock) {
		close(fd);
		return open_vsock(path, port);
	}
	if (fd < 0 || strlen(path) >= sizeof(addr.sun_path))
		die(path);
	memcpy(addr.sun_path, path, strlen(path));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die(path);
	snprintf(line, sizeof(line), "CONNECT %d\n", port);
	send_all(fd, line, strlen(line));
	while (c != '\n')
		if (read(fd, &c, 1) != 1)
			die("the machine refused the stream");
	return fd;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void wait_some(struct pollfd *p, unsigned int n)
{
	if (poll(p, n, STUCK_MS) <= 0) {
		errno = ETIMEDOUT;
		die("poll");
	}
}

/* ---- round trips ---- */

/* One byte under way on each of @streams descriptors, or all of them on the one descriptor. */
static void rtt(const struct end *e, const char *name, unsigned int streams, unsigned int n)
{
	unsigned int fds = e->bare ? 1 : streams, done = 0, sent = 0, total;
	int64_t *took = calloc((size_t)streams * n, sizeof(*took));
	int64_t since[STREAMS_MAX];
	struct pollfd p[STREAMS_MAX];

	total = streams * n;
	for (unsigned int i = 0; i < fds; i++)
		p[i] = (struct pollfd){ .fd = e->bare ? e->fd : open_stream(e, PORT_ECHO),
					.events = POLLIN };
	if (e->bare)
		request_port(e->fd, 'E', total);
	for (; sent < streams; sent++) {
		since[sent] = now_ns();
		send_all(p[e->bare ? 0 : sent].fd, piece, 1);
	}
	while (done < total) {
		wait_some(p, fds);
		for (unsigned int i = 0; i < fds; i++) {
			ssize_t got = p[i].revents ? read(p[i].fd, sink, PIECE) : 0;

			if (p[i].revents && got <= 0)
				die("read");
			/* On the bare port answers come in the order of the bytes. */
			for (; got > 0; got--) {
				unsigned int slot = e->bare ? done % streams : i;

				took[done++] = now_ns() - since[slot];
				if (sent < total) {
					since[slot] = now_ns();
					send_all(p[i].fd, piece, 1);
					sent++;
				}
			}
		}
	}
	if (total > 2 * WARM_UP) {
		took += WARM_UP;
		total -= WARM_UP;
	}
	qsort(took, total, sizeof(*took), compare);
	printf("%s %lld %lld\n", name, (long long)took[total / 2],
	       (long long)took[total * 99 / 100]);
	for (unsigned int i = 0; i < fds && !e->bare; i++)
		close(p[i].fd);
}

/* ---- bulk ---- */

static void move_some(struct stream *s, short events)
{
	ssize_t n;

	if ((events & POLLOUT) && s->to_send) {
		n = send(s->fd, piece, s->to_send < PIECE ? (size_t)s->to_send : PIECE,
			 MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			die("send");
		s->to_send -= n > 0 ? (uint64_t)n : 0;
	}
	if (events & (POLLIN | POLLHUP)) {
		n = read(s->fd, sink, PIECE);
		if (n < 0 && errno != EAGAIN)
			die("read");
		if (n == 0 && s->to_receive)
			die("the stream ended early");
		s->to_receive -= n > 0 ? (uint64_t)n : 0;
	}
}

/* Smolvm's discarding port says nothing until the end of what it takes, and then only that. */
static void wait_end(struct stream *s)
{
	set_blocking(s->fd, true);
	shutdown(s->fd, SHUT_WR);
	if (read(s->fd, sink, 1) < 0)
		die("read");
}

static void pump(struct stream *s, unsigned int n)
{
	struct pollfd p[STREAMS_MAX];

	for (;;) {
		unsigned int busy = 0;

		for (unsigned int i = 0; i < n; i++) {
			bool active = s[i].to_send || s[i].to_receive;

			p[i] = (struct pollfd){ .fd = active ? s[i].fd : -1 };
			p[i].events = (short)((s[i].to_send ? POLLOUT : 0) |
					      (s[i].to_receive ? POLLIN : 0));
			busy += active;
		}
		if (!busy)
			return;
		wait_some(p, n);
		for (unsigned int i = 0; i < n; i++)
			if (p[i].revents)
				move_some(&s[i], p[i].revents);
	}
}

static void bulk(const struct end *e, const char *name, bool echo, unsigned int streams,
		 uint64_t bytes)
{
	struct stream s[STREAMS_MAX];
	int64_t start;

	if (e->bare)
		streams = 1;
	for (unsigned int i = 0; i < streams; i++) {
		s[i].fd = e->bare ? e->fd :
			  open_stream(e, echo ? PORT_ECHO : PORT_DISCARD);
		s[i].to_send = bytes / streams;
		s[i].to_receive = echo ? bytes / streams : e->bare ? 1 : 0;
		set_blocking(s[i].fd, false);
	}
	start = now_ns();
	if (e->bare)
		request_port(e->fd, echo ? 'E' : 'D', bytes);
	pump(s, streams);
	for (unsigned int i = 0; i < streams && !e->bare && !echo; i++)
		wait_end(&s[i]);
	printf("%s %.0f\n", name, (double)bytes * 1e9 / (double)(now_ns() - start));
	for (unsigned int i = 0; i < streams && !e->bare; i++)
		close(s[i].fd);
	if (e->bare)
		set_blocking(e->fd, true);
}

int main(int argc, char **argv)
{
	struct end e = { .bare = argc > 2 && !strcmp(argv[1], "port"), .fd = -1,
			 .vsock = argc > 2 && !strcmp(argv[1], "vsock") };

	if (argc < 4) {
		fprintf(stderr, "usage: streamwork port FD | smolvm SOCKET | vsock CID  JOB...\n");
		return 2;
	}
	if (e.bare)
		e.fd = (int)strtol(argv[2], NULL, 10);
	e.socket = argv[2];
	for (int i = 3; i < argc; i++) {
		char *colon = strchr(argv[i], ':'), *rest = NULL;
		unsigned long streams = colon ? strtoul(colon + 1, &rest, 10) : 0;
		unsigned long n = rest && *rest == ':' ? strtoul(rest + 1, NULL, 10) : 0;

		if (!streams || streams > STREAMS_MAX || !n || n > 1000000)
			return 2;
		if (!strncmp(argv[i], "rtt", 3))
			rtt(&e, argv[i], (unsigned int)streams, (unsigned int)n);
		else
			bulk(&e, argv[i], !strncmp(argv[i], "echo", 4), (unsigned int)streams,
			     n * MIB);
		fflush(stdout);
	}
	return 0;
}
