/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a machine out of a kernel that has booted: identity, root file system, shared folders.
 *
 * Everything up to the root file system is done at once: nothing of it can touch a shared folder.
 * Mounting those is asynchronous (share.c).
 */
#include "agent/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/root.h"
#include "agent/share.h"
#include "agent/user.h"
#include "base/err.h"
#include "base/fd.h"

struct entropy {
	int bits, bytes;
	uint8_t data[SETUP_ENTROPY_MAX];
};

/* The machine may be a copy of another one: its random numbers must become its own at once. */
static int add_entropy(const struct setup *s, struct smolvm_error *err)
{
	struct entropy e = { .bits = (int)s->entropy_len * 8, .bytes = (int)s->entropy_len };
	AUTO_FD fd = open("/dev/random", O_RDWR | O_CLOEXEC);

	memcpy(e.data, s->entropy, s->entropy_len);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &e) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return err_sys(err, "adding entropy");
	return 0;
}

static int loopback_up(struct smolvm_error *err)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	AUTO_FD fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		return err_sys(err, "bringing up the loopback interface");
	return 0;
}

static int set_identity(const struct setup *s, struct smolvm_error *err)
{
	struct timespec ts = { (time_t)(s->time_ns / 1000000000), (long)(s->time_ns % 1000000000) };
	int rc;

	if (s->hostname && sethostname(s->hostname, strlen(s->hostname)) < 0)
		return err_sys(err, "setting the host name '%s'", s->hostname);
	if (s->time_ns && clock_settime(CLOCK_REALTIME, &ts) < 0)
		return err_sys(err, "setting the clock");
	rc = s->entropy_len ? add_entropy(s, err) : 0;
	if (rc == 0)
		rc = loopback_up(err);
	return rc;
}

/* Descriptors by which the machine's /dev is reached even when something is mounted over it. */
static int open_dev(struct agent *a, struct smolvm_error *err)
{
	a->dev_fd = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return a->dev_fd < 0 ? err_sys(err, "opening /dev") : 0;
}

/* The owner of shared files in the guest; 0:0 unless somebody else was asked for. */
static int share_owner(const struct setup *s, uint32_t *uid, uint32_t *gid,
		       struct smolvm_error *err)
{
	AUTO_FREE struct user *u = NULL;
	int rc;

	*uid = *gid = 0;
	if (!s->user)
		return 0;
	u = malloc(sizeof(*u));
	if (!u)
		return err_nomem(err);
	rc = user_lookup(s->user, u, err);
	if (rc < 0)
		return rc;
	*uid = u->uid;
	*gid = u->gid;
	return 0;
}

/**
 * struct setup_job - a set-up whose shared folders are being mounted.
 */
struct setup_job {
	struct agent *agent;
	struct setup setup;
	setup_done_fn *done;
	void *ctx;
};

static void finish(struct setup_job *job, int rc, struct smolvm_error *err)
{
	job->agent->setup = rc == 0 ? SETUP_DONE : SETUP_FAILED;
	job->done(job->ctx, rc, err);
	setup_fini(&job->setup);
	free(job);
}

static void shares_mounted(void *ctx, int rc, struct smolvm_error *err)
{
	finish(ctx, rc, err);
}

static int mount_shares(struct setup_job *job, struct smolvm_error *err)
{
	const struct setup *s = &job->setup;
	struct share_mounts m = { .shares = s->shares, .n = s->n_shares,
				  .fs_shares = s->fs_shares, .then_read_only = s->read_only };
	int rc = share_owner(s, &m.uid, &m.gid, err);

	for (size_t i = 0; i < s->n_shares; i++)
		if (!(s->fs_shares >> s->shares[i].number & 1))
			job->agent->shared = true;
	if (rc == 0)
		rc = share_mount_all(job->agent, &m, shares_mounted, job, err);
	return rc;
}

void setup_start(struct agent *a, const uint8_t *body, size_t len, setup_done_fn *done, void *ctx)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct setup_job *job = NULL;
	int rc;

	if (a->setup != SETUP_NONE)
		rc = err_set(&err, EALREADY, "the machine is already set up");
	else if (!(job = malloc(sizeof(*job))))
		rc = err_nomem(&err);
	else
		rc = setup_parse(&job->setup, body, len, &err);
	if (!job) {
		done(ctx, rc, &err);
		return;
	}
	job->agent = a;
	job->done = done;
	job->ctx = ctx;
	a->setup = SETUP_RUNNING;
	if (rc == 0)
		rc = set_identity(&job->setup, &err);
	if (rc == 0)
		rc = root_mount(&job->setup, &a->rw_fd, &err);
	if (rc == 0)
		rc = open_dev(a, &err);
	if (rc == 0 && job->setup.n_shares) {
		rc = mount_shares(job, &err);
		if (rc == 0)
			return; /* shares_mounted() goes on */
	} else if (rc == 0 && job->setup.read_only) {
		rc = root_make_read_only(&err);
	}
	finish(job, rc, &err);
}
