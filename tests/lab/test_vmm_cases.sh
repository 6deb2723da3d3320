#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The VMM's library on KVM; see vmm_cases.c.
build=${SMOLVM_BUILD:-build}
exec timeout -k 5 300 "$build/tests/lab/vmm_cases" "$build/vmlinux" "$build/tests/lab/vmm_init"
