/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking a machine's configuration, and encoding it for smolvm-vmm and the agent.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"
#include "machine/machine.h"
#include "proto/agent.h"
#include "proto/tlv.h"
#include "proto/vmm.h"

#define NAME_LEN_MAX 63
#define PATH_LEN_MAX 4095

static bool name_is_valid(const char *name, const char *also)
{
	size_t n = strlen(name);

	if (n == 0 || n > NAME_LEN_MAX || !isalnum((unsigned char)name[0]))
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr(also, *p))
			return false;
	return true;
}

static int check_sizes(const struct smolvm_machine_config *c, struct smolvm_error *err)
{
	if (c->cpus > SMOLVM_CPUS_MAX)
		return err_set(err, EINVAL, "%u CPUs are too many: 1 to %u can be had", c->cpus,
			       SMOLVM_CPUS_MAX);
	if (c->memory_mib && c->memory_mib < SMOLVM_MEMORY_MIB_MIN)
		return err_set(err, EINVAL, "%u MiB of memory are too little: give at least %u MiB",
			       c->memory_mib, SMOLVM_MEMORY_MIB_MIN);
	if (c->memory_mib > SMOLVM_MEMORY_MIB_MAX)
		return err_set(err, EINVAL, "%u MiB of memory are too much: at most %u MiB",
			       c->memory_mib, SMOLVM_MEMORY_MIB_MAX);
	if (c->storage_mib && c->storage_mib < SMOLVM_STORAGE_MIB_MIN)
		return err_set(err, EINVAL,
			       "%u MiB of storage are too little: give at least %u MiB",
			       c->storage_mib, SMOLVM_STORAGE_MIB_MIN);
	if (c->storage_mib > SMOLVM_STORAGE_MIB_MAX)
		return err_set(err, EINVAL, "%u MiB of storage are too much: at most %u MiB",
			       c->storage_mib, SMOLVM_STORAGE_MIB_MAX);
	return 0;
}

static int check_share(const struct smolvm_share *sh, struct smolvm_error *err)
{
	const char *p = sh->guest;

	if (!sh->host || !*sh->host)
		return err_set(err, EINVAL, "a shared folder has no path on the host");
	if (!p || p[0] != '/' || strlen(p) > PATH_LEN_MAX)
		return err_set(err, EINVAL,
			       "\"%s\" is no absolute path in the guest to share %s at", p ? p : "",
			       sh->host);
	if (p[strspn(p, "/")] == '\0')
		return err_set(err, EINVAL, "%s cannot be shared as the guest's whole root",
			       sh->host);
	while (*p) {
		size_t n;

		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n > 255 || (n == 2 && !strncmp(p, "..", 2)))
			return err_set(err, EINVAL, "\"%s\" is no path to share %s at", sh->guest,
				       sh->host);
		p += n;
	}
	return 0;
}

int config_check(const struct smolvm_machine_config *c, struct smolvm_error *err)
{
	int rc = check_sizes(c, err);

	if (rc < 0)
		return rc;
	if (c->name && !name_is_valid(c->name, "_.-"))
		return err_set(err, EINVAL,
			       "\"%s\" is no name for a machine: letters, digits and _.- "
			       "are allowed, %d at most, the first a letter or digit",
			       c->name, NAME_LEN_MAX);
	if (c->hostname && !name_is_valid(c->hostname, ".-"))
		return err_set(err, EINVAL,
			       "\"%s\" is no host name: letters, digits, . and - are "
			       "allowed, %d at most",
			       c->hostname, NAME_LEN_MAX);
	if (c->n_shares > SHARES_MAX)
		return err_set(err, EINVAL, "%zu shared folders are too many: at most %u",
			       c->n_shares, SHARES_MAX);
	for (size_t i = 0; i < c->n_shares; i++) {
		rc = check_share(&c->shares[i], err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int config_open_share(const struct smolvm_share *share, bool *ret_is_file, struct smolvm_error *err)
{
	AUTO_FD fd = open(share->host, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return err_sys(err, "cannot share %s", share->host);
	if (fstat(fd, &st) < 0)
		return err_sys(err, "cannot share %s", share->host);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(err, EINVAL,
			       "cannot share %s: it is a %s; a directory or a regular file "
			       "can be shared",
			       share->host,
			       S_ISSOCK(st.st_mode)   ? "socket"
			       : S_ISFIFO(st.st_mode) ? "fifo"
						      : "device");
	if (faccessat(AT_FDCWD, share->host, R_OK | (S_ISDIR(st.st_mode) ? X_OK : 0), AT_EACCESS) <
	    0)
		return err_sys(err, "cannot share %s", share->host);
	*ret_is_file = S_ISREG(st.st_mode);
	return fd_take(&fd);
}

/* ---- encoding ---- */

static int encode_share(struct buf *b, const struct machine_plan *plan, size_t i)
{
	const struct smolvm_share *sh = &plan->config->shares[i];
	struct buf nested;
	int rc;

	buf_init(&nested, PATH_LEN_MAX + 256);
	rc = tlv_put_u64(&nested, SHARE_NUMBER, i);
	rc = rc ? rc : tlv_put_str(&nested, SHARE_PATH, sh->guest);
	if (rc == 0 && sh->read_only)
		rc = tlv_put_u64(&nested, SHARE_READ_ONLY, 1);
	if (rc == 0 && plan->share_is_file[i])
		rc = tlv_put_u64(&nested, SHARE_IS_FILE, 1);
	rc = rc ? rc : tlv_put(b, SETUP_SHARE, buf_peek(&nested), nested.len);
	buf_fini(&nested);
	return rc;
}

static int encode_setup(struct buf *b, const struct machine_plan *plan)
{
	const struct smolvm_machine_config *c = plan->config;
	int rc = tlv_put_str(b, SETUP_HOSTNAME, c->hostname ? c->hostname : plan->name);

	rc = rc ? rc : tlv_put_str(b, SETUP_ROOT_DEVICE, "/dev/vda");
	if (rc == 0 && plan->has_scratch)
		rc = tlv_put_str(b, SETUP_WRITE_DEVICE, "/dev/vdb");
	if (rc == 0 && c->read_only)
		rc = tlv_put_u64(b, SETUP_READ_ONLY, 1);
	rc = rc ? rc : tlv_put_str(b, SETUP_USER, c->user ? c->user : plan->image->user);
	for (size_t i = 0; rc == 0 && i < c->n_shares; i++)
		rc = encode_share(b, plan, i);
	return rc;
}

static int encode_disks(struct buf *b, const struct machine_plan *plan)
{
	int rc = tlv_put_u64(b, VMM_DISK, 1);

	if (rc == 0 && plan->has_scratch)
		rc = tlv_put_u64(b, VMM_DISK, 0);
	for (size_t i = 0; rc == 0 && i < plan->config->n_shares; i++)
		rc = tlv_put_u64(b, VMM_SHARE, plan->config->shares[i].read_only ? 1 : 0);
	return rc;
}

int config_encode(const struct machine_plan *plan, struct buf *b, struct smolvm_error *err)
{
	const struct smolvm_machine_config *c = plan->config;
	struct buf setup;
	int rc;

	buf_init(&setup, VMM_SETUP_MAX);
	rc = encode_setup(&setup, plan);
	rc = rc ? rc : tlv_put_str(b, VMM_NAME, plan->name);
	rc = rc ? rc : tlv_put_str(b, VMM_RUN_DIR, plan->run_dir);
	rc = rc ? rc : tlv_put_str(b, VMM_BACKEND, plan->backend->name);
	rc = rc ? rc : tlv_put_str(b, VMM_PROGRAM, plan->probe.program);
	rc = rc ? rc : tlv_put_u64(b, VMM_ACCELERATOR, plan->probe.accelerator);
	rc = rc ? rc : tlv_put_u64(b, VMM_CPUS, c->cpus ? c->cpus : 1);
	rc = rc ? rc
		: tlv_put_u64(b, VMM_MEMORY_MIB, c->memory_mib ? c->memory_mib : SMOLVM_MEMORY_MIB);
	rc = rc ? rc : tlv_put_str(b, VMM_KERNEL, plan->kernel);
	rc = rc ? rc : tlv_put_u64(b, VMM_OWN_KERNEL, plan->own_kernel);
	rc = rc ? rc : tlv_put_u64(b, VMM_VERBOSE, c->verbose ? 1 : 0);
	rc = rc ? rc : tlv_put_u64(b, VMM_NESTED, c->nested ? 1 : 0);
	rc = rc ? rc : tlv_put_u64(b, VMM_STREAM_SHARES, c->stream_shares ? 1 : 0);
	rc = rc ? rc : tlv_put_u64(b, VMM_NO_JAIL, c->insecure_no_jail ? 1 : 0);
	rc = rc ? rc : encode_disks(b, plan);
	rc = rc ? rc : tlv_put(b, VMM_SETUP, buf_peek(&setup), setup.len);
	buf_fini(&setup);
	if (rc == -ENOBUFS)
		return err_set(err, E2BIG, "the names of the shared folders are too long together");
	return rc < 0 ? err_nomem(err) : 0;
}
