/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image calls of the library as a command, for tests:
 *
 *	image_tool get|import SOURCE [NAME]	image_tool list
 *	image_tool remove WHAT			image_tool open
 *
 * $SMOLVM_HOME says which state folder. Prints what it got, or the error and its errno's name;
 * exits with 0 or 1. With $CANCEL_AFTER, the import is abandoned after so many bytes.
 */
#include <smolvm/smolvm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_list(const char *label, const char *const *list)
{
	printf("%s", label);
	for (; *list; list++)
		printf(" [%s]", *list);
	printf("\n");
}

static void print_image(const struct smolvm_image *i)
{
	printf("id %s\nsize %llu\nrootfs %s\n", i->id, (unsigned long long)i->size_bytes,
	       i->rootfs_path);
	print_list("names", i->names);
	print_list("entrypoint", i->entrypoint);
	print_list("cmd", i->cmd);
	print_list("env", i->env);
	printf("workdir [%s]\nuser [%s]\nstop_signal [%s]\narchitecture [%s]\n", i->workdir,
	       i->user, i->stop_signal, i->architecture);
}

static int progress(void *ctx, uint64_t done, uint64_t total)
{
	const char *limit = getenv("CANCEL_AFTER");

	return limit && done >= strtoull(limit, NULL, 10);
}

static int list(struct smolvm *s, struct smolvm_error *err)
{
	struct smolvm_image **images;
	ssize_t n = smolvm_image_list(s, &images, err);

	if (n < 0)
		return (int)n;
	for (ssize_t i = 0; i < n; i++)
		print_image(images[i]);
	smolvm_image_free_list(images, (size_t)n);
	return 0;
}

static int run(struct smolvm *s, int argc, char **argv, struct smolvm_error *err)
{
	const struct smolvm_import_options options = {
		.name = argc > 3 ? argv[3] : NULL, .progress = progress,
	};
	struct smolvm_image *image = NULL;
	int rc;

	if (argc == 2 && strcmp(argv[1], "open") == 0)
		return 0;
	if (argc == 2 && strcmp(argv[1], "list") == 0)
		return list(s, err);
	if (argc == 3 && strcmp(argv[1], "remove") == 0)
		return smolvm_image_remove(s, argv[2], err);
	if (argc >= 2 && strcmp(argv[1], "get") == 0)
		rc = smolvm_image_get(s, argc > 2 ? argv[2] : NULL, &options, &image, err);
	else if (argc >= 3 && strcmp(argv[1], "import") == 0)
		rc = smolvm_image_import(s, argv[2], &options, &image, err);
	else
		return -1;
	if (rc == 0)
		print_image(image);
	smolvm_image_free(image);
	return rc;
}

int main(int argc, char **argv)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm *s;
	int rc = smolvm_open(&s, NULL, &err);

	if (rc == 0) {
		rc = run(s, argc, argv, &err);
		smolvm_close(s);
	}
	if (rc < 0) {
		printf("%s: %s\n", strerrorname_np(err.code), err.message);
		return 1;
	}
	return 0;
}
