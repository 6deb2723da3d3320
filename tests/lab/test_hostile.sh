#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Guests that attack every device, see hostile.c; an argument: other random numbers.
dir=${SMOLVM_BUILD:-build}/tests/lab
exec timeout -k 5 400 "$dir/hostile" "$dir/hostile_guest" "${1:-0}"
