/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the request that sets a machine up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/setup.h"
#include "base/err.h"
#include "proto/tlv.h"

static int take_string(const struct tlv *t, char **ret)
{
	if (*ret || t->len == 0 || t->len > SETUP_STRING_MAX)
		return -EINVAL;
	return tlv_str(t, ret);
}

static int take_flag(const struct tlv *t, bool *ret)
{
	uint64_t v;

	if (tlv_u64(t, &v) < 0 || v > 1)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int take_entropy(const struct tlv *t, struct setup *s)
{
	if (t->len < SETUP_ENTROPY_MIN || t->len > SETUP_ENTROPY_MAX)
		return -EINVAL;
	memcpy(s->entropy, t->data, t->len);
	s->entropy_len = t->len;
	return 0;
}

static int take_share_key(const struct tlv *t, struct share_spec *share)
{
	uint64_t v;

	switch (t->key) {
	case SHARE_NUMBER:
		if (tlv_u64(t, &v) < 0 || v >= SHARES_MAX)
			return -EINVAL;
		share->number = (uint32_t)v;
		return 0;
	case SHARE_PATH:
		return take_string(t, &share->path);
	case SHARE_READ_ONLY:
		return take_flag(t, &share->read_only);
	case SHARE_IS_FILE:
		return take_flag(t, &share->is_file);
	default:
		return -EINVAL;
	}
}

static int take_share(const struct tlv *t, struct setup *s)
{
	struct share_spec *share = &s->shares[s->n_shares];
	struct tlv_reader r;
	struct tlv key;
	int rc;

	if (s->n_shares == SHARES_MAX)
		return -EINVAL;
	s->n_shares++;
	share->number = UINT32_MAX;
	tlv_reader_init(&r, t->data, t->len);
	while ((rc = tlv_next(&r, &key)) > 0) {
		rc = take_share_key(&key, share);
		if (rc < 0)
			return rc;
	}
	if (rc < 0)
		return rc;
	if (share->number == UINT32_MAX || !share->path || share->path[0] != '/')
		return -EINVAL;
	for (size_t i = 0; i + 1 < s->n_shares; i++)
		if (s->shares[i].number == share->number)
			return -EINVAL;
	return 0;
}

static int take_key(const struct tlv *t, struct setup *s)
{
	switch (t->key) {
	case SETUP_HOSTNAME:
		return take_string(t, &s->hostname);
	case SETUP_TIME_NS:
		return tlv_u64(t, &s->time_ns);
	case SETUP_ENTROPY:
		return take_entropy(t, s);
	case SETUP_ROOT_DEVICE:
		return take_string(t, &s->root_device);
	case SETUP_WRITE_DEVICE:
		return take_string(t, &s->write_device);
	case SETUP_READ_ONLY:
		return take_flag(t, &s->read_only);
	case SETUP_USER:
		return t->len ? take_string(t, &s->user) : 0;
	case SETUP_SHARE:
		return take_share(t, s);
	case SETUP_FS_SHARES:
		return tlv_u64(t, &s->fs_shares);
	default:
		return -EINVAL;
	}
}

/* Each bit must stand for a share, which is a directory. */
static bool fs_shares_fit(const struct setup *s)
{
	uint64_t left = s->fs_shares;

	for (size_t i = 0; i < s->n_shares; i++)
		if (!s->shares[i].is_file)
			left &= ~(UINT64_C(1) << s->shares[i].number);
	return left == 0;
}

int setup_parse(struct setup *s, const uint8_t *body, size_t len, struct smolvm_error *err)
{
	struct tlv_reader r;
	struct tlv t;
	int rc;

	memset(s, 0, sizeof(*s));
	tlv_reader_init(&r, body, len);
	while ((rc = tlv_next(&r, &t)) > 0) {
		rc = take_key(&t, s);
		if (rc < 0)
			return err_set(err, -rc, "setting up the machine: bad value for key %u",
				       t.key);
	}
	if (rc < 0)
		return err_set(err, -rc, "setting up the machine: malformed request");
	if (!fs_shares_fit(s))
		return err_set(err, EINVAL, "setting up the machine: bad value for key %u",
			       SETUP_FS_SHARES);
	if (!s->root_device)
		return err_set(err, EINVAL, "setting up the machine: no root device");
	return 0;
}

void setup_fini(struct setup *s)
{
	free(s->hostname);
	free(s->root_device);
	free(s->write_device);
	free(s->user);
	for (size_t i = 0; i < s->n_shares; i++)
		free(s->shares[i].path);
	memset(s, 0, sizeof(*s));
}
