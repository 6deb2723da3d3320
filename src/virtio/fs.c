/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device (virtio 1.2 §5.11): FUSE requests in two queues, for the file server.
 *
 * Theory of operation. A file system may block for as long as it likes, so the device has a thread
 * of its own, which waits for the queues' eventfds. It takes a request under the lock and handles
 * it without: what is looked at is copied out once, so that a guest that changes it meanwhile
 * changes nothing; only the data of READ and WRITE is left where it is. Requests are answered one
 * after another, those of the high-priority queue (FORGET) first. The driver hears of a batch when
 * nothing more is waiting, or when the first of it has waited for INTERRUPT_NS.
 *
 * @busy says that the thread is at work without the lock. A reset forbids it to begin anything
 * (@stopped) and waits for that; what is answered too late is dropped.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "fileserver/fileserver.h"
#include "virtio/devices.h"

/* syscalls (fs): poll ppoll */

#define DATA_MAX     (1u << 20) /* of one READ or WRITE */
#define MESSAGE_MAX  (DATA_MAX + 4096u)
#define TAG_MAX	     36u
#define INTERRUPT_NS 50000

enum { QUEUE_HIPRIO, QUEUE_REQUEST, QUEUES };

/**
 * struct fs - one shared folder.
 * @config:  as the driver reads it: the tag, then how many request queues (le32).
 * @idle:    @busy has become false.
 * @told:    what has been pushed into each queue has been told; @waits_since: for how long not.
 * @uid, @gid, @user_set: for the thread to pass on.
 */
struct fs {
	struct virtio_device device;
	struct fileserver *server;
	uint8_t config[TAG_MAX + 4];
	pthread_t thread;
	bool has_thread;
	pthread_cond_t idle;
	bool busy, stopped, quit;
	bool untold[QUEUES];
	int64_t waits_since;
	int wake_fd;
	bool user_set;
	uint32_t uid, gid;
	uint8_t *request, *reply; /* MESSAGE_MAX; touched as far as they are needed */
	struct iovec iov[VIRTQ_BUFFERS_MAX], data[VIRTQ_BUFFERS_MAX];
};

static struct fs *fs_of(struct virtio_device *d)
{
	return (struct fs *)d;
}

/* ---- requests ---- */

/* What is behind the first @offset bytes of these buffers, in as few pieces as can be. */
static struct fileserver_data data_behind(struct fs *f, const struct iovec *iov, unsigned int n,
					  size_t offset)
{
	struct fileserver_data d = { .iov = f->data };

	for (; n; n--, iov++) {
		uint8_t *p = iov->iov_base;
		size_t len = iov->iov_len;

		if (offset >= len) {
			offset -= len;
			continue;
		}
		p += offset;
		len -= offset;
		offset = 0;
		d.bytes += len;
		if (d.n && (uint8_t *)d.iov[d.n - 1].iov_base + d.iov[d.n - 1].iov_len == p)
			d.iov[d.n - 1].iov_len += len;
		else
			d.iov[d.n++] = (struct iovec){ p, len };
	}
	return d;
}

/*
 * Data of files goes between the guest's memory and the file; everything else is copied, once.
 * Return: the bytes of the answer as it is in @reply, all of it in *@ret_all; -EPROTO for what is
 * no request.
 */
static ssize_t ask_server(struct fs *f, const struct virtq_request *r, ssize_t *ret_all)
{
	size_t len = (size_t)r->out_bytes, head = FILESERVER_WRITE_HEAD;
	struct fileserver_data data = { 0 };
	enum fileserver_kind kind;

	head = len < head ? len : head;
	iov_read(r->iov, r->n_out, 0, f->request, head);
	kind = fileserver_kind(f->request, head);
	if (kind == FILESERVER_WRITE) {
		data = data_behind(f, r->iov, r->n_out, head);
		len = head;
	} else {
		iov_read(r->iov, r->n_out, head, f->request + head, len - head);
	}
	if (kind == FILESERVER_READ)
		data = data_behind(f, r->iov + r->n_out, r->n_in, FILESERVER_READ_HEAD);
	*ret_all = fileserver_handle_data(f->server, f->request, len, f->reply, MESSAGE_MAX,
					  kind == FILESERVER_OTHER ? NULL : &data);
	return kind == FILESERVER_READ && *ret_all > (ssize_t)FILESERVER_READ_HEAD
		       ? (ssize_t)FILESERVER_READ_HEAD
		       : *ret_all;
}

/* Without the lock. Return: the bytes of the answer, or -EPROTO for what is no request. */
static ssize_t handle(struct fs *f, const struct virtq_request *r)
{
	ssize_t n, here;

	if (r->out_bytes > MESSAGE_MAX)
		return -EPROTO;
	here = ask_server(f, r, &n);
	if (n > 0 && (uint64_t)n > r->in_bytes)
		return -EPROTO;
	if (here > 0)
		iov_write(r->iov + r->n_out, r->n_in, 0, f->reply, (size_t)here);
	virtio_count(&f->device.env->counters->fs_requests, 1);
	virtio_count(&f->device.env->counters->fs_bytes, r->out_bytes + (n > 0 ? (size_t)n : 0));
	return n;
}

static void tell(struct fs *f)
{
	for (unsigned int i = 0; i < QUEUES; i++)
		if (f->untold[i])
			virtio_interrupt(&f->device, &f->device.queues[i]);
	memset(f->untold, 0, sizeof(f->untold));
	f->waits_since = 0;
}

static void answered(struct fs *f, unsigned int queue, uint16_t head, ssize_t n)
{
	int64_t now = clock_ns();

	virtq_push(&f->device.queues[queue], head, (uint32_t)n);
	f->untold[queue] = true;
	if (!f->waits_since)
		f->waits_since = now;
	else if (now - f->waits_since > INTERRUPT_NS)
		tell(f);
}

/* Return: whether there was a request. Called with the lock held, as are all below. */
static bool serve_one(struct fs *f, unsigned int queue)
{
	struct virtio_device *d = &f->device;
	struct virtq_request r;
	ssize_t n;

	if (f->stopped || !virtio_pop(d, &d->queues[queue], &r, f->iov, VIRTQ_BUFFERS_MAX,
				      2 * MESSAGE_MAX))
		return false;
	if (f->user_set)
		fileserver_set_guest_user(f->server, f->uid, f->gid);
	f->user_set = false;
	f->busy = true;
	pthread_mutex_unlock(&d->lock);
	n = handle(f, &r);
	pthread_mutex_lock(&d->lock);
	f->busy = false;
	if (f->stopped) {
		pthread_cond_broadcast(&f->idle);
		return false;
	}
	if (n < 0) {
		virtio_fail(d);
		return false;
	}
	answered(f, queue, r.head, n);
	return true;
}

static bool usable(const struct fs *f, unsigned int queue)
{
	const struct virtq *q = &f->device.queues[queue];

	return f->device.active && !f->stopped && q->ready && !q->broken;
}

static bool listen_again(struct fs *f)
{
	bool more = false;

	for (unsigned int i = 0; i < QUEUES; i++)
		if (usable(f, i))
			more |= virtq_listen(&f->device.queues[i]);
	return more;
}

static void serve(struct fs *f)
{
	if (!f->device.active)
		return;
	do {
		for (unsigned int i = 0; i < QUEUES; i++)
			if (usable(f, i))
				virtq_silence(&f->device.queues[i]);
		while (serve_one(f, QUEUE_HIPRIO) || serve_one(f, QUEUE_REQUEST))
			;
		if (!f->stopped)
			tell(f);
	} while (listen_again(f));
}

/* ---- the thread ---- */

static void wake(struct fs *f)
{
	uint64_t one = 1;

	if (f->wake_fd >= 0 && write(f->wake_fd, &one, sizeof(one)) < 0)
		return; /* full: it is awake anyway */
}

static void wait_for_work(struct fs *f, struct pollfd *fds, nfds_t n)
{
	uint64_t count;

	if (poll(fds, n, -1) < 0)
		return;
	for (nfds_t i = 0; i < n; i++)
		if (fds[i].revents && read(fds[i].fd, &count, sizeof(count)) < 0)
			continue; /* somebody else has taken it */
}

static void *fs_thread(void *ctx)
{
	struct fs *f = ctx;
	struct pollfd fds[1 + QUEUES] = { { .fd = f->wake_fd, .events = POLLIN } };

	for (unsigned int i = 0; i < QUEUES; i++)
		fds[1 + i] = (struct pollfd){ f->device.notify_fds[i], POLLIN, 0 };
	pthread_mutex_lock(&f->device.lock);
	while (!f->quit) {
		serve(f);
		pthread_mutex_unlock(&f->device.lock);
		wait_for_work(f, fds, 1 + QUEUES);
		pthread_mutex_lock(&f->device.lock);
	}
	pthread_mutex_unlock(&f->device.lock);
	return NULL;
}

/* ---- operations ---- */

static int fs_start(struct virtio_device *d, struct smolvm_error *err)
{
	struct fs *f = fs_of(d);
	int rc;

	if (!d->env->loop)
		return 0;
	f->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->wake_fd < 0)
		return err_sys(err, "cannot serve a shared folder");
	rc = virtio_thread(d->env, SMOLVM_VMM_THREAD_FS, &f->thread, fs_thread, f);
	if (rc < 0)
		return err_set(err, -rc, "no thread for a shared folder: %s", strerror(-rc));
	f->has_thread = true;
	return 0;
}

static void fs_activate(struct virtio_device *d)
{
	struct fs *f = fs_of(d);

	f->stopped = false;
	wake(f);
}

static void fs_reset(struct virtio_device *d)
{
	struct fs *f = fs_of(d);

	f->stopped = true;
	while (f->busy)
		pthread_cond_wait(&f->idle, &d->lock);
	memset(f->untold, 0, sizeof(f->untold));
	f->waits_since = 0;
}

/* Without a thread: tests. */
static void fs_notify(struct virtio_device *d, unsigned int q)
{
	serve(fs_of(d));
}

static void fs_config_read(struct virtio_device *d, unsigned int offset, uint8_t *p,
			   unsigned int len)
{
	const struct fs *f = fs_of(d);

	virtio_config_copy(f->config, sizeof(f->config), offset, p, len);
}

static void fs_destroy(struct virtio_device *d)
{
	struct fs *f = fs_of(d);

	if (f->has_thread) {
		pthread_mutex_lock(&d->lock);
		f->quit = f->stopped = true;
		pthread_mutex_unlock(&d->lock);
		wake(f);
		pthread_join(f->thread, NULL);
	}
	fd_close(&f->wake_fd);
	fileserver_destroy(f->server);
	pthread_cond_destroy(&f->idle);
	virtio_fini(d);
	free(f->request);
	free(f->reply);
	free(f);
}

static const struct virtio_ops fs_ops = {
	.name = "fs",
	.id = VIRTIO_ID_FS,
	.start = fs_start,
	.activate = fs_activate,
	.reset = fs_reset,
	.notify = fs_notify,
	.config_read = fs_config_read,
	.destroy = fs_destroy,
};

int fs_create(struct virtio_device **ret, struct virtio_env *env,
	      const struct smolvm_vmm_fs *config, struct smolvm_error *err)
{
	struct fileserver_config served = { config->root_fd, config->read_only, DATA_MAX };
	size_t n = config->tag ? strlen(config->tag) : 0;
	struct fs *f;
	int rc;

	if (n < 1 || n > TAG_MAX)
		return err_set(err, EINVAL, "a shared folder's tag has 1 to %u bytes", TAG_MAX);
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_nomem(err);
	f->request = malloc(MESSAGE_MAX);
	f->reply = malloc(MESSAGE_MAX);
	rc = f->request && f->reply ? fileserver_create(&f->server, &served, err) : err_nomem(err);
	if (rc < 0) {
		free(f->request);
		free(f->reply);
		free(f);
		return rc;
	}
	fileserver_set_guest_user(f->server, 0, 0);
	memcpy(f->config, config->tag, n);
	f->config[TAG_MAX] = 1;
	f->wake_fd = -1;
	f->stopped = true;
	pthread_cond_init(&f->idle, NULL);
	virtio_init(&f->device, &fs_ops, env, 0, QUEUES);
	f->device.own_thread = true;
	*ret = &f->device;
	return 0;
}

void fs_set_user(struct virtio_device *d, uint32_t uid, uint32_t gid)
{
	struct fs *f = fs_of(d);

	pthread_mutex_lock(&d->lock);
	f->uid = uid;
	f->gid = gid;
	f->user_set = true;
	pthread_mutex_unlock(&d->lock);
}
