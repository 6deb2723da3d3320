/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared folders that are no devices: one connection, one file server and one thread each.
 *
 * The agent connects to the share's port and sends who its user is. For a folder that is a device
 * that is all: its backend is told, and one byte goes back. For the others FUSE requests follow,
 * which a thread answers one after another, because a file system may block for as long as it
 * likes. That thread is there, confined, before the guest runs, and waits to be told its
 * connection through a pipe. A share is served to one connection in its life: what a second one
 * would know of the first's nodes is nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/fd.h"
#include "fileserver/fileserver.h"
#include "vmmproc/vmm.h"

/* syscalls (main): setsockopt sendto fcntl(F_GETFL F_SETFL) */

#define REQUEST_MIN 40u /* struct fuse_in_header */
#define READ_AHEAD (64u << 10)
#define SOCKET_BYTES (1 << 20)

/**
 * struct service - what the thread of a share works on.
 * @orders: where it reads the number of its connection, @fd.
 * @in:  SHARE_MESSAGE_MAX + READ_AHEAD bytes, of which @len are in use.
 * @out: SHARE_MESSAGE_MAX bytes. Both are touched as far as they are needed.
 */
struct service {
	struct vmm *vmm;
	struct fileserver *server;
	int orders, fd;
	uint8_t *in, *out;
	size_t len;
};

static void service_free(struct service *s)
{
	fd_close(&s->orders);
	fd_close(&s->fd);
	fileserver_destroy(s->server);
	free(s->in);
	free(s->out);
	free(s);
}

/* ---- the thread ---- */

/* Return: the length of the request that @in begins with, 0 or -errno when there is no other. */
static ssize_t next_request(struct service *s)
{
	for (;;) {
		uint32_t len = s->len >= 4 ? get_le32(s->in) : REQUEST_MIN;
		ssize_t n;

		if (len < REQUEST_MIN || len > SHARE_MESSAGE_MAX)
			return -EPROTO;
		if (s->len >= len)
			return len;
		n = read(s->fd, s->in + s->len, SHARE_MESSAGE_MAX + READ_AHEAD - s->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		s->len += (size_t)n;
	}
}

static void *serve(void *ctx)
{
	struct service *s = ctx;
	ssize_t len, n = 0;

	if (confine_thread(s->vmm, JAIL_FS) < 0) {
		vmmproc_tell_ended(EPERM, "a thread for a shared folder cannot be confined");
		_exit(1);
	}
	if (fd_read_full(s->orders, &s->fd, sizeof(s->fd)) != sizeof(s->fd))
		n = -ECANCELED;
	while (n >= 0 && (len = next_request(s)) > 0) {
		n = fileserver_handle(s->server, s->in, (size_t)len, s->out, SHARE_MESSAGE_MAX);
		if (n > 0)
			n = fd_write_all(s->fd, s->out, (size_t)n);
		s->len -= (size_t)len;
		memmove(s->in, s->in + len, s->len);
	}
	service_free(s);
	return NULL;
}

static int start_service(struct share *sh)
{
	struct service *s = calloc(1, sizeof(*s));
	pthread_t thread;
	int orders[2], rc;

	if (!s || pipe2(orders, O_CLOEXEC) < 0) {
		free(s);
		return -ENOMEM;
	}
	*s = (struct service){
		.vmm = sh->vmm, .server = sh->server, .orders = orders[0], .fd = -1
	};
	sh->orders = orders[1];
	s->in = malloc(SHARE_MESSAGE_MAX + READ_AHEAD);
	s->out = malloc(SHARE_MESSAGE_MAX);
	rc = s->in && s->out ? -pthread_create(&thread, NULL, serve, s) : -ENOMEM;
	if (rc < 0)
		service_free(s);
	else
		pthread_detach(thread);
	return rc;
}

int share_start_all(struct vmm *v, struct smolvm_error *err)
{
	int rc = 0;

	for (unsigned int i = 0; rc == 0 && i < v->n_shares; i++)
		if (!v->shares[i].device)
			rc = start_service(&v->shares[i]);
	return rc < 0 ? err_set(err, -rc, "cannot serve shared folders: %s", strerror(-rc)) : 0;
}

/* Hand the connection over. Return: 0 or -errno. */
static int connect_service(struct share *sh, int fd)
{
	int size = SOCKET_BYTES, rc;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	rc = fd_set_nonblock(fd, 0);
	rc = rc ? rc : fd_write_all(sh->orders, &fd, sizeof(fd));
	if (rc < 0)
		close(fd);
	fd_close(&sh->orders);
	return rc;
}

/* ---- the preamble ---- */

static void begin(struct share *sh, int fd)
{
	uint32_t uid = get_le32(sh->preamble), gid = get_le32(sh->preamble + 4);
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct vmm *v = sh->vmm;
	int rc;

	if (sh->device) {
		rc = v->vm.runner->folder_user(&v->vm, sh->number, uid, gid, &err);
		if (rc == 0 && send(fd, "", 1, MSG_NOSIGNAL) < 0)
			rc = -errno;
		close(fd);
	} else {
		/* Its thread does not look yet. */
		fileserver_set_guest_user(sh->server, uid, gid);
		rc = connect_service(sh, fd);
	}
	if (rc < 0 && rc != -EPIPE)
		vmmproc_end(v, -rc, "cannot serve shared folder %u: %s", sh->number, strerror(-rc));
}

static void on_preamble(struct loop_watch *w, unsigned int events)
{
	struct share *sh = w->ctx;
	ssize_t n = read(w->fd, sh->preamble + sh->preamble_len,
			 SHARE_PREAMBLE - sh->preamble_len);
	int fd = w->fd;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		sh->preamble_len += (size_t)n;
		if (sh->preamble_len < SHARE_PREAMBLE)
			return;
	}
	loop_remove(sh->vmm->loop, w);
	if (n <= 0)
		close(fd);
	else
		begin(sh, fd);
}

void share_arrived(struct vmm *v, unsigned int number, int fd)
{
	struct share *sh = &v->shares[number];

	sh->watch = (struct loop_watch){ fd, LOOP_READ, on_preamble, sh };
	if (loop_add(v->loop, &sh->watch) < 0)
		close(fd);
}

int share_create(struct vmm *v, unsigned int number, int root_fd, struct smolvm_error *err)
{
	struct share *sh = &v->shares[number];
	struct fileserver_config config = { root_fd, sh->read_only, SHARE_DATA_MAX };
	int rc = fileserver_create(&sh->server, &config, err);

	if (rc < 0)
		err_prefix(err, "shared folder %u", number);
	return rc;
}
