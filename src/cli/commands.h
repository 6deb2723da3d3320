/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands, each defined in the file of its name.
 */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/command.h"

extern const struct command command_sandbox_run;
extern const struct command command_image_ls;
extern const struct command command_image_import;
extern const struct command command_image_inspect;
extern const struct command command_image_rm;
extern const struct command command_doctor;
extern const struct command command_version;
extern const struct command command_help;
extern const struct command command_completion;
extern const struct command command_man;
extern const struct command command_complete_images;

#endif
