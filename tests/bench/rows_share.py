# SPDX-License-Identifier: Apache-2.0
"""Shared folders: the same four jobs in a guest of the same kernel, by each kind of sharing."""

import os
import shutil

import peers
from common import (Row, Skip, Skipped, environment, parse_numbers, say, take_time,
                    temp_folder)

JOBS = {"write": "write %d MB, fsync", "read": "read %d MB, cold", "create": "create %d files",
        "stat": "list and stat %d files, cold"}


# Ways of ours -> how they are asked for.
OURS = {"ours": ("device", "qemu"), "builtin": ("device", "builtin"),
        "builtin-stream": ("stream", "builtin")}


def ours(bench, folder, mib, files, *how):
    shutil.copy(peers.program("fswork"), folder)
    return take_time([peers.program("sharework"), *how, folder, "/mnt/share/fswork", "/mnt/share",
                      str(mib), str(files)],
                     env={**environment(bench.home), "SMOLVM_LIBEXEC": bench.build}).out


def measure(way, bench, mib, files):
    folder = temp_folder("share")
    work = "%d:%d" % (mib, files)
    try:
        if way in OURS:
            text = ours(bench, folder, mib, files, *OURS[way])
        else:
            text = {"9p": peers.share_9p, "virtiofsd": peers.share_virtiofs}[way](
                bench.machine(), folder, work)
        # What arrived on the host is what was sent.
        if os.path.getsize(os.path.join(folder, "big")) != mib << 20 or \
                len(os.listdir(os.path.join(folder, "many"))) != files:
            raise Skip("%s: not all files are there" % way)
        return {job: parse_numbers(text, job)[0] / 1e9 for job in JOBS}
    except OSError as e:
        raise Skip("%s: %s" % (way, e)) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def share_rows(bench):
    mib, files = (100, 2000) if not bench.quick else (50, 500)
    took = {"ours": [], "9p": [], "virtiofsd": []}
    failed = {}
    for i in bench.rounds(5, 1, 60):
        for way in took:
            say("share: round %d, %s" % (i + 1, way))
            if way in failed:
                continue
            try:
                took[way].append(measure(way, bench, mib, files))
            except Skip as e:
                if way == "ours":
                    raise
                failed[way] = e
    for way in ("9p", "virtiofsd"):
        if way in failed:
            yield Skipped("share/" + way, failed[way])
            continue
        for job, text in JOBS.items():
            yield Row("share/%s-%s" % (job, way), text % (files if "files" in text else mib),
                      "QEMU's 9p" if way == "9p" else way, [t[job] for t in took["ours"]],
                      [t[job] for t in took[way]], aim=1.0)
