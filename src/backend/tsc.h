/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frequency of the host's time stamp counter.
 */
#ifndef BACKEND_TSC_H
#define BACKEND_TSC_H

/**
 * tsc_khz() - kHz of the TSC that an emulated guest will see (the host's), or 0 where there is
 * none.
 *
 * From the kernel's own calibration where /proc/cpuinfo shows it, checked against a measurement of
 * one millisecond; else measured for ten.
 */
unsigned int tsc_khz(void);

#endif
