/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first request to the agent: what to mount, and who it is.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "proto/msg.h"
#include "proto/tlv.h"
#include "proto/vmm.h"
#include "vmmproc/vmm.h"

#define ENTROPY_BYTES 64

static void on_answer(struct vmm *v, const struct msg *m, int error)
{
	struct tlv_reader r;
	struct tlv t;

	if (!m) {
		vmmproc_end(v, EPROTO, "the guest gave no answer%s%s", error ? ": " : "",
			    error ? strerror(-error) : "");
		return;
	}
	if (m->type == CONTROL_OK) {
		vmmproc_ready(v);
		return;
	}
	tlv_reader_init(&r, m->body, m->len);
	while (tlv_next(&r, &t) == 1) {
		if (t.key == FAILURE_TEXT) {
			vmmproc_end(v, EIO, "in the guest: %.*s", (int)t.len, (const char *)t.data);
			return;
		}
	}
	vmmproc_end(v, EPROTO, "the guest's answer makes no sense");
}

/* Which shares are devices is known here. Time and entropy are as fresh as can be: added last. */
static int complete(struct vmm *v)
{
	uint8_t entropy[ENTROPY_BYTES];
	struct timespec now;
	uint64_t devices = 0;
	int rc = 0;

	for (unsigned int i = 0; i < v->n_shares; i++)
		devices |= (uint64_t)v->shares[i].device << i;
	if (devices)
		rc = tlv_put_u64(&v->setup, SETUP_FS_SHARES, devices);
	if (getrandom(entropy, sizeof(entropy), 0) != sizeof(entropy))
		return -errno;
	rc = rc ? rc : tlv_put(&v->setup, SETUP_ENTROPY, entropy, sizeof(entropy));
	clock_gettime(CLOCK_REALTIME, &now);
	return rc ? rc
		  : tlv_put_u64(&v->setup, SETUP_TIME_NS,
				(uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
}

void boot_setup(struct vmm *v)
{
	if (complete(v) < 0 ||
	    call_agent(v, AGENT_PORT_CONTROL, CONTROL_SETUP, &v->setup, on_answer) < 0)
		vmmproc_end(v, ENOMEM, "out of memory");
}
