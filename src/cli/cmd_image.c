/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smolvm image ls, import, inspect, rm: the images of the store.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include <smolvm/smolvm.h>

#include "base/clock.h"
#include "base/err.h"
#include "cli/commands.h"
#include "cli/json_out.h"
#include "cli/show.h"
#include "cli/progress.h"

#define ID_SHOWN 12 /* hexadecimal digits */

struct image_values {
	const char *name;
	bool json;
	bool quiet;
	bool force;
};

#define JSON_OPTION                                                                                \
	{ .name = "json", .parse = option_flag, .offset = offsetof(struct image_values, json),     \
	  .help = "print JSON" }

/* "sha256:0123..." without what is in front of the digits. */
static const char *id_digits(const struct smolvm_image *image)
{
	const char *colon = strchr(image->id, ':');

	return colon ? colon + 1 : image->id;
}

static int no_arguments(const struct command *c, const struct arguments *args)
{
	if (args->n == 0)
		return 0;
	show_message("'%s' takes no arguments", c->name);
	return c->usage_status;
}

static int failed(const struct smolvm_error *err)
{
	show_error(err);
	return EXIT_FAILED;
}

static void print_image_json(struct json_out *j, const struct smolvm_image *image)
{
	struct tm tm;
	time_t t = (time_t)image->created_s;
	char created[32];

	if (!gmtime_r(&t, &tm) || !strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm))
		created[0] = '\0';
	json_open(j, NULL, '{');
	json_string(j, "id", image->id);
	json_strings(j, "names", image->names);
	json_string(j, "created", created);
	json_number(j, "size_bytes", (int64_t)image->size_bytes);
	json_string(j, "architecture", image->architecture);
	json_strings(j, "entrypoint", image->entrypoint);
	json_strings(j, "cmd", image->cmd);
	json_strings(j, "env", image->env);
	json_string(j, "workdir", image->workdir);
	json_string(j, "user", image->user);
	json_string(j, "stop_signal", image->stop_signal);
	json_string(j, "rootfs_path", image->rootfs_path);
	json_close(j, '}');
}

/* ---------------------------------------------------------------- ls */

static const struct option_spec ls_options[] = {
	JSON_OPTION,
	{ .letter = 'q', .name = "quiet", .parse = option_flag,
	  .offset = offsetof(struct image_values, quiet), .help = "print the IDs only" },
	{ 0 }
};

static void print_row(const struct smolvm_image *image, const char *name, int width, int64_t now_s)
{
	char age[32], size[16];
	int len = (int)strlen(name);

	show_text(stdout, name);
	printf("%*s  %-*.*s  %-14s  %9s\n", len < width ? width - len : 0, "", ID_SHOWN, ID_SHOWN,
	       id_digits(image), show_age(age, image->created_s, now_s),
	       show_size(size, image->size_bytes));
}

static void print_images(struct smolvm_image **images, size_t n)
{
	const char *const *name;
	int64_t now_s = time(NULL);
	size_t i, len;
	int width = 16;

	for (i = 0; i < n; i++) {
		for (name = images[i]->names; *name; name++) {
			len = strlen(*name);
			if ((int)len > width && len <= 48)
				width = (int)len;
		}
	}
	printf("%-*s  %-*s  %-14s  %9s\n", width, "NAME", ID_SHOWN, "ID", "CREATED", "SIZE");
	for (i = 0; i < n; i++) {
		if (!images[i]->names[0])
			print_row(images[i], "-", width, now_s);
		for (name = images[i]->names; *name; name++)
			print_row(images[i], *name, width, now_s);
	}
}

static int ls_run(const struct command *c, void *values, const struct arguments *args)
{
	const struct image_values *v = values;
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct json_out j = { .f = stdout };
	struct smolvm_image **images;
	struct smolvm *s;
	ssize_t n, i;

	if (no_arguments(c, args))
		return c->usage_status;
	if (smolvm_open(&s, NULL, &err))
		return failed(&err);
	n = smolvm_image_list(s, &images, &err);
	if (n < 0) {
		smolvm_close(s);
		return failed(&err);
	}
	if (v->json) {
		json_open(&j, NULL, '[');
		for (i = 0; i < n; i++)
			print_image_json(&j, images[i]);
		json_close(&j, ']');
	} else if (v->quiet) {
		for (i = 0; i < n; i++)
			printf("%.*s\n", ID_SHOWN, id_digits(images[i]));
	} else {
		print_images(images, (size_t)n);
	}
	smolvm_image_free_list(images, (size_t)n);
	smolvm_close(s);
	return 0;
}

const struct command command_image_ls = {
	.name = "image ls",
	.aliases = { "image list", "images" },
	.summary = "list the images that are kept here",
	.synopsis = "[--json] [-q]",
	.examples = {
		{ "for people", "smolvm image ls" },
		{ "for a script", "smolvm image ls --json" },
	},
	.options = ls_options,
	.usage_status = EXIT_USAGE,
	.values_size = sizeof(struct image_values),
	.run = ls_run,
};

/* ---------------------------------------------------------------- import */

static const struct option_spec import_options[] = {
	{ .name = "name", .argument = "NAME", .parse = option_string,
	  .offset = offsetof(struct image_values, name),
	  .help = "a further name for the image; without it, it has those that the source gives" },
	{ .letter = 'q', .name = "quiet", .parse = option_flag,
	  .offset = offsetof(struct image_values, quiet),
	  .help = "no progress; print the ID alone" },
	JSON_OPTION,
	{ 0 }
};

static void print_imported(const struct smolvm_image *image, const struct image_values *v,
			   int64_t took_ns)
{
	struct json_out j = { .f = stdout };
	const char *const *name;
	char size[16];

	if (v->json) {
		print_image_json(&j, image);
		return;
	}
	if (v->quiet) {
		printf("%.*s\n", ID_SHOWN, id_digits(image));
		return;
	}
	for (name = image->names; *name; name++) {
		show_text(stdout, *name);
		fputs("  ", stdout);
	}
	printf("%.*s  %s  in %.1f s\n", ID_SHOWN, id_digits(image),
	       show_size(size, image->size_bytes), (double)took_ns / 1e9);
}

static int import_run(const struct command *c, void *values, const struct arguments *args)
{
	const struct image_values *v = values;
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm_import_options options = { .name = v->name, .progress = progress_report };
	struct smolvm_image *image;
	struct progress progress;
	int64_t began_ns;
	struct smolvm *s;
	int r;

	if (args->n != 1) {
		show_message(
			"'image import' takes one source: an archive, a folder, or - for standard "
			"input");
		return c->usage_status;
	}
	if (smolvm_open(&s, NULL, &err))
		return failed(&err);
	began_ns = clock_ns();
	progress_init(&progress, args->items[0], v->quiet, NULL);
	options.progress_ctx = &progress;
	r = smolvm_image_import(s, args->items[0], &options, &image, &err);
	progress_end(&progress);
	if (r) {
		smolvm_close(s);
		return failed(&err);
	}
	print_imported(image, v, clock_ns() - began_ns);
	smolvm_image_free(image);
	smolvm_close(s);
	return 0;
}

const struct command command_image_import = {
	.name = "image import",
	.summary = "read an image into the store",
	.synopsis = "[flags] SOURCE",
	.description =
	"SOURCE is an archive that 'docker save' or 'podman save' made, an OCI layout (a folder, "
	"or a tar of one), a root file system (a folder, or a tar, compressed or not), or - for an "
	"archive on standard input. SOURCE#TAG is one image of an archive or layout that holds "
	"several. What was imported before, unchanged, costs nothing. 'smolvm sandbox run' takes "
	"a SOURCE too and imports it on the way.",
	.examples = {
		{ "from docker", "docker save alpine | smolvm image import -" },
		{ "a root file system", "smolvm image import ./rootfs.tar.gz --name mine" },
	},
	.options = import_options,
	.positional = COMPLETE_FILE,
	.usage_status = EXIT_USAGE,
	.values_size = sizeof(struct image_values),
	.run = import_run,
};

/* ---------------------------------------------------------------- inspect */

static int inspect_run(const struct command *c, void *values, const struct arguments *args)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct json_out j = { .f = stdout };
	struct smolvm_image *image;
	int status = 0;
	struct smolvm *s;
	size_t i;

	if (args->n == 0) {
		show_message("'image inspect' needs the name or ID of an image");
		return c->usage_status;
	}
	if (smolvm_open(&s, NULL, &err))
		return failed(&err);
	json_open(&j, NULL, '[');
	for (i = 0; i < args->n; i++) {
		if (smolvm_image_find(s, args->items[i], &image, &err)) {
			status = failed(&err);
			continue;
		}
		print_image_json(&j, image);
		smolvm_image_free(image);
	}
	json_close(&j, ']');
	smolvm_close(s);
	return status;
}

static const struct option_spec inspect_options[] = {
	JSON_OPTION,
	{ 0 }
};

const struct command command_image_inspect = {
	.name = "image inspect",
	.summary = "print everything about images, as JSON",
	.synopsis = "NAME...",
	.examples = { { "what it runs", "smolvm image inspect alpine:latest | jq '.[0].cmd'" } },
	.options = inspect_options,
	.positional = COMPLETE_IMAGE,
	.usage_status = EXIT_USAGE,
	.values_size = sizeof(struct image_values),
	.run = inspect_run,
};

/* ---------------------------------------------------------------- rm */

static const struct option_spec rm_options[] = {
	{ .letter = 'f', .name = "force", .parse = option_flag,
	  .offset = offsetof(struct image_values, force),
	  .help = "an image that is not there is no failure" },
	{ 0 }
};

static int rm_run(const struct command *c, void *values, const struct arguments *args)
{
	const struct image_values *v = values;
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm *s;
	int status = 0, r;
	size_t i;

	if (args->n == 0) {
		show_message("'image rm' needs the name or ID of an image");
		return c->usage_status;
	}
	if (smolvm_open(&s, NULL, &err))
		return failed(&err);
	for (i = 0; i < args->n; i++) {
		r = smolvm_image_remove(s, args->items[i], &err);
		if (r && !(r == -ENOENT && v->force))
			status = failed(&err);
	}
	smolvm_close(s);
	return status;
}

const struct command command_image_rm = {
	.name = "image rm",
	.aliases = { "image remove" },
	.summary = "forget names of images, and delete images without any",
	.synopsis = "[-f] NAME...",
	.description =
	"Forgets each name; an image is deleted with its last name, or at once when its ID is "
	"given. Machines that run from it go on.",
	.examples = {
		{ "one", "smolvm image rm alpine:latest" },
		{ "all of them", "smolvm image rm $(smolvm image ls -q)" },
	},
	.options = rm_options,
	.positional = COMPLETE_IMAGE,
	.usage_status = EXIT_USAGE,
	.values_size = sizeof(struct image_values),
	.run = rm_run,
};
