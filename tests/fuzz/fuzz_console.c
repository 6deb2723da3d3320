/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console and a driver by script (virtio_script.h). Port 0 is a socket, port 1 a pipe each way;
 * the device's own operation writes, reads or closes what is at their other ends.
 */
#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "virtio_script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SOCKET, FEED, DRAIN, ENDS };

static void host(struct vs *s, int *ends)
{
	static uint8_t bytes[65536];
	uint32_t what = vs_take(s, 1), n = vs_take(s, 2);
	int *fd = &ends[what % ENDS];

	if (*fd < 0)
		return;
	if (what & 128)
		fd_close(fd);
	else if (what & 64)
		(void)!read(*fd, bytes, n);
	else
		(void)!write(*fd, bytes, n);
	vs_turn(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2], feed[2], drain[2], ends[ENDS], op;
	struct virtio_device *d;
	struct vs s;

	signal(SIGPIPE, SIG_IGN);
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	assert(pipe2(feed, O_NONBLOCK) == 0 && pipe2(drain, O_NONBLOCK) == 0);
	ends[SOCKET] = pair[1];
	ends[FEED] = feed[1];
	ends[DRAIN] = drain[0];
	vs_begin(&s, data, size, NULL);
	assert(console_create(&d, &s.env,
			      &(struct smolvm_vmm_console){
				      .n_ports = 3,
				      .ports = { { NULL, pair[0], pair[0] },
						 { "port", feed[0], drain[1] },
						 { "nothing", -1, -1 } } },
			      NULL) == 0);
	vs_attach(&s, d);
	while ((op = vs_step(&s)) >= 0)
		if (op == 7)
			host(&s, ends);
	vs_end(&s);
	for (int i = 0; i < ENDS; i++)
		fd_close(&ends[i]);
	return 0;
}
