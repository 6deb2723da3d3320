/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers of what comes with an image. The first byte chooses one; the last of them takes the
 * rest as an archive of images and plans its import.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/bundle.h"
#include "image/name.h"
#include "image/oci.h"
#include "image/plan.h"
#include "image/sniff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_index(const char *text, size_t len)
{
	struct oci_index index = { 0 };

	if (oci_index_parse(&index, text, len, NULL) == 0)
		for (size_t i = 0; i < index.n; i++)
			assert(digest_is_valid(index.manifests[i].digest) &&
			       index.manifests[i].size >= 0);
	oci_index_fini(&index);
}

static void read_manifest(const char *text, size_t len)
{
	struct oci_manifest m = { 0 };

	if (oci_manifest_parse(&m, text, len, NULL) == 0)
		assert(m.config.kind == OCI_CONFIG && m.n_layers <= OCI_LAYERS_MAX);
	oci_manifest_fini(&m);
}

static void read_config(const char *text, size_t len)
{
	struct oci_config c = { 0 };

	if (oci_config_parse(&c, text, len, NULL) == 0)
		assert(c.cmd && c.env && c.entrypoint && c.user && c.workdir && c.stop_signal);
	oci_config_fini(&c);
	plan_check_platform(text, len, NULL);
}

static void read_docker(const char *text, size_t len)
{
	struct docker_manifest m = { 0 };

	if (docker_manifest_parse(&m, text, len, NULL) == 0)
		assert(m.n > 0 && m.images[0].config && m.images[0].layers && m.images[0].tags);
	docker_manifest_fini(&m);
}

static void read_name(const char *text, size_t len)
{
	AUTO_FREE char *copy = strndup(text, len);
	char name[NAME_LEN_MAX + 1], again[NAME_LEN_MAX + 1];
	struct name_list list = { 0 };

	if (name_normalize(copy, name, NULL) == 0) {
		assert(strlen(name) <= NAME_LEN_MAX && strchr(name, ':'));
		assert(name_list_add(&list, copy, NULL) == 0 && list.n == 1);
		assert(name_list_has(&list, copy));
		/* Not another name when it is given back, unless more can be taken off. */
		if (name_normalize(name, again, NULL) == 0)
			assert(strlen(again) <= strlen(name));
	}
	name_list_fini(&list);
}

static void look_at(const char *text, size_t len)
{
	assert(*sniff_name(text, len));
	sniff_is_compressed(text, len);
	bundle_is_plain_tar(text, len);
}

static void read_bundle(const char *text, size_t len)
{
	AUTO_FD fd = fd_memfd("fuzz");
	struct bundle *b;
	struct plan plan;

	if (fd < 0 || fd_write_all(fd, text, len) < 0)
		return;
	if (bundle_open_archive(&b, fd, (int64_t)len, "/tmp", NULL, NULL) < 0)
		return;
	if (plan_image(&plan, b, NULL, NULL) == 0) {
		assert(digest_is_valid(plan.id));
		for (size_t i = 0; i < plan.n_layers; i++) {
			struct bundle_file f;

			if (bundle_find(b, plan.layers[i].path, &f, NULL) == 1) {
				assert(f.offset >= 0 && f.size >= 0);
				bundle_file_close(&f);
			}
		}
		plan_fini(&plan);
	}
	bundle_close(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const readers[])(const char *text, size_t len) = {
		read_index, read_manifest, read_config, read_docker, read_name, look_at,
		read_bundle,
	};

	if (size > 0)
		readers[data[0] % (sizeof(readers) / sizeof(*readers))]((const char *)data + 1,
									size - 1);
	return 0;
}
