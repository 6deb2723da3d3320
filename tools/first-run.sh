#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What "make run" shows: a first command in a virtual machine, and how to go on.
#
#   first-run.sh SMOLVM
set -euo pipefail

smolvm=${1:?usage: first-run.sh SMOLVM}
name=${smolvm#"$PWD"/}

show() { echo "  \$ $name $*"; }

echo
echo "A command in a virtual machine of its own, with a kernel of its own:"
echo
show sandbox run -- uname -a
"$smolvm" sandbox run -- uname -a | sed 's/^/  /'
echo
echo "This machine's own kernel, for comparison:"
echo "  $(uname -a)"
cat <<EOT

It is gone already; nothing is left behind. Go on with:

  $name sandbox run -it -- sh            a shell (leave it with ^D)
  $name sandbox run -v "\$PWD":/work -w /work -- ls
                                               a folder of yours inside
  docker save python:3.11 -o python.tar          an image from elsewhere ("podman save" too)
  $name sandbox run ./python.tar -- python3 -c 'print(6 * 7)'
  $name sandbox run --help               all options
  $name doctor                           what machines run on here, and why

"sudo make install" puts smolvm into /usr/local/bin.
EOT
