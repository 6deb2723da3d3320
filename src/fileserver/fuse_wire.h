/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE protocol as this server speaks it: the system's <linux/fuse.h>, of any age from 7.33
 * (Linux 5.11) on, and what it may lack.
 */
#ifndef FILESERVER_FUSE_WIRE_H
#define FILESERVER_FUSE_WIRE_H

#include <linux/fuse.h>
#include <stdint.h>

/* What the server answers in INIT; it uses nothing newer. */
#define WIRE_MINOR 33u
/* The oldest guest kernel it accepts: from here on every structure has its present size. */
#define WIRE_MINOR_MIN 28u

/* fuse_in_header: the 16-bit count at this offset is total_extlen since 7.38, padding before. */
#define WIRE_EXTLEN_OFFSET 36u

#define WIRE_NAME_MAX 255u

/* Device numbers travel as 32 bits: 12 of the major number, 20 of the minor. */
static inline uint32_t wire_dev(unsigned int major, unsigned int minor)
{
	return (minor & 0xffu) | (major & 0xfffu) << 8 | (minor & 0xfff00u) << 12;
}

static inline unsigned int wire_major(uint32_t dev)
{
	return (dev & 0xfff00u) >> 8;
}

static inline unsigned int wire_minor(uint32_t dev)
{
	return (dev & 0xffu) | ((dev >> 12) & 0xfff00u);
}

#endif
