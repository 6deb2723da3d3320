/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the description of the machine to run.
 */
#include <errno.h>

#include "base/err.h"
#include "base/fd.h"
#include "proto/tlv.h"
#include "vmmproc/vmm.h"

static int take(struct vmm *v, const struct tlv *t)
{
	uint64_t n = 0;
	int rc = 0;

	switch (t->key) {
	case VMM_NAME:
		return v->name ? -EBADMSG : tlv_str(t, &v->name);
	case VMM_RUN_DIR:
		return v->run_dir ? -EBADMSG : tlv_str(t, &v->run_dir);
	case VMM_BACKEND:
		return v->backend_name ? -EBADMSG : tlv_str(t, &v->backend_name);
	case VMM_PROGRAM:
		return v->program ? -EBADMSG : tlv_str(t, &v->program);
	case VMM_KERNEL:
		return v->kernel ? -EBADMSG : tlv_str(t, &v->kernel);
	case VMM_SETUP:
		return t->len > VMM_SETUP_MAX ? -EBADMSG : buf_add(&v->setup, t->data, t->len);
	default:
		rc = tlv_u64(t, &n);
	}
	if (rc < 0)
		return rc;
	switch (t->key) {
	case VMM_ACCELERATOR:
		v->spec.accelerator = n == ACCEL_KVM ? ACCEL_KVM : ACCEL_TCG;
		break;
	case VMM_CPUS:
		v->spec.cpus = (unsigned int)n;
		break;
	case VMM_MEMORY_MIB:
		v->spec.memory_mib = (unsigned int)n;
		break;
	case VMM_OWN_KERNEL:
		v->spec.own_kernel = n;
		break;
	case VMM_VERBOSE:
		v->spec.verbose = n;
		break;
	case VMM_NESTED:
		v->spec.nested = n;
		break;
	case VMM_DISK:
		if (v->spec.n_disks == BACKEND_DISKS_MAX)
			return -EBADMSG;
		v->spec.disks[v->spec.n_disks] =
			(struct backend_disk){ VMM_FD_DISK + (int)v->spec.n_disks, n };
		v->spec.n_disks++;
		break;
	case VMM_SHARE:
		if (v->n_shares == SHARES_MAX)
			return -EBADMSG;
		v->shares[v->n_shares++].read_only = n;
		break;
	case VMM_NO_JAIL:
		v->no_jail = n;
		break;
	case VMM_STREAM_SHARES:
		v->stream_shares = n;
		break;
	default:
		return -EBADMSG;
	}
	return 0;
}

int spec_parse(struct vmm *v, const uint8_t *body, size_t len, struct smolvm_error *err)
{
	struct tlv_reader r;
	struct tlv t;
	int rc;

	buf_init(&v->setup, VMM_SETUP_MAX + 1024);
	tlv_reader_init(&r, body, len);
	while ((rc = tlv_next(&r, &t)) == 1) {
		rc = take(v, &t);
		if (rc < 0)
			break;
	}
	if (rc < 0 || !v->name || !v->run_dir || !v->backend_name || !v->program || !v->kernel)
		return err_set(err, EBADMSG,
			       "the machine's description is malformed: use a smolvm and "
			       "a smolvm-vmm of one release");
	v->runner = backend_runner_find(v->backend_name);
	if (!v->runner)
		return err_set(err, EINVAL, "no backend \"%s\"", v->backend_name);
	v->spec.name = v->name;
	v->spec.program = v->program;
	v->spec.kernel = v->kernel;
	return 0;
}
