/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reaching a call that blocks from another thread or a signal handler: records through a pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "machine/machine.h"

struct smolvm_control {
	int fds[2]; /* non-blocking: when nobody reads, records beyond the pipe's size are lost */
};

int smolvm_control_create(struct smolvm_control **ret, struct smolvm_error *err)
{
	struct smolvm_control *c = malloc(sizeof(*c));

	if (!c)
		return err_nomem(err);
	if (pipe2(c->fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(c);
		return err_sys(err, "cannot make a pipe");
	}
	*ret = c;
	return 0;
}

void smolvm_control_destroy(struct smolvm_control *c)
{
	if (!c)
		return;
	close(c->fds[0]);
	close(c->fds[1]);
	free(c);
}

static void put(struct smolvm_control *c, enum control_type type, int a, int b)
{
	struct control_record r = { type, a, b };
	int saved = errno;

	while (write(c->fds[1], &r, sizeof(r)) < 0 && errno == EINTR)
		;
	errno = saved;
}

void smolvm_control_signal(struct smolvm_control *c, int signal)
{
	put(c, CONTROL_RECORD_SIGNAL, signal, 0);
}

void smolvm_control_resize(struct smolvm_control *c, unsigned int rows, unsigned int columns)
{
	put(c, CONTROL_RECORD_RESIZE, (int)rows, (int)columns);
}

void smolvm_control_cancel(struct smolvm_control *c)
{
	put(c, CONTROL_RECORD_CANCEL, 0, 0);
}

int control_fd(const struct smolvm_control *c)
{
	return c ? c->fds[0] : -1;
}

bool control_take(struct smolvm_control *c, struct control_record *ret)
{
	/* Records are shorter than PIPE_BUF: they are never torn. */
	return c && read(c->fds[0], ret, sizeof(*ret)) == sizeof(*ret);
}
