#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the source tree for what no compiler checks; see RULES below.

usage: check_source.py [ROOT]       one line per finding; exit code 1 when there is any
       check_source.py --self-test  plants one violation of every rule and looks for the finding
"""

import os
import re
import subprocess
import sys
import tempfile

# Which folders of src/ a folder may include from, its own apart. Public headers are everyone's.
ARROWS = {
    "base": [],
    "proto": ["base"],
    "hypervisor": ["base"],
    "fileserver": ["base"],
    "store": ["base"],
    "image": ["store", "base"],
    "virtio": ["fileserver", "base"],
    "vmm": ["virtio", "hypervisor", "base"],
    "backend": ["vmm", "hypervisor", "base"],
    "jail": ["base"],
    "machine": ["image", "store", "backend", "jail", "proto", "base"],
    "vmmproc": ["backend", "jail", "fileserver", "proto", "base"],
    "agent": ["proto", "base"],
    "cli": ["base"],
}

# Foreign library -> how its headers look; one file of src/ includes each.
FOREIGN = {
    "sqlite3": re.compile(r"sqlite3\.h$"),
    "libarchive": re.compile(r"archive(_entry)?\.h$"),
    "jansson": re.compile(r"jansson\.h$"),
    "openssl": re.compile(r"openssl/"),
}

# Function -> what to use in its place.
BANNED = {
    "strcpy": "snprintf or buf", "strcat": "buf", "sprintf": "snprintf", "vsprintf": "vsnprintf",
    "strncpy": "snprintf or memcpy", "strncat": "buf", "gets": "getline", "strtok": "strtok_r",
    "mktemp": "mkostemp", "tmpnam": "mkostemp", "tempnam": "mkostemp", "system": "proc_run",
    "popen": "proc_spawn", "alloca": "malloc", "strdupa": "strdup", "atoi": "strtol",
    "atol": "strtol", "atoll": "strtoll", "atof": "strtod", "rand": "getrandom",
    "srand": "getrandom", "random": "getrandom", "drand48": "getrandom", "scanf": "strtol",
    "sscanf": "strtol", "fscanf": "strtol", "setjmp": "return values", "longjmp": "return values",
    "strerror_r": "err_sys or %m", "ctime": "strftime", "asctime": "strftime",
    "gmtime": "gmtime_r", "localtime": "localtime_r", "getpwnam": "getpwnam_r",
    "getpwuid": "getpwuid_r", "vfork": "proc_spawn", "signal": "sigaction",
    "select": "poll or loop", "bcopy": "memmove", "bzero": "memset", "usleep": "clock.h or loop",
}
# (function, folder of src/) that may call it all the same, and why.
BANNED_BUT = {
    ("signal", "base"): "a child's signals go back to their defaults before the exec",
    ("signal", "agent"): "likewise",
}

COLUMNS = 100
TAB = 8
TEXT_ENDINGS = (".c", ".h", ".py", ".sh", ".build", ".rb", ".mk")
TEXT_NAMES = ("Makefile", "meson.build", "run")
ROOTS = ("src", "include", "tests", "tools", "guest", "examples", "docs", ".ci")
SKIPPED_FOLDERS = ("corpus", "__pycache__", "patches")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
CALL = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(BANNED))


def strip(text):
    """The text without comments and string contents, its lines where they were."""
    return NOT_CODE.sub(lambda m: "\n" * m.group().count("\n"), text)


def folder_of(path):
    """src/x/y.c -> x"""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "src" else None


def includes(text):
    for number, line in enumerate(text.splitlines(), 1):
        m = INCLUDE.match(line)
        if m:
            yield number, m.group(1), m.group(2)


# ---- the rules: each yields (line, message) of one file --------------------------------------

def rule_licence(path, text):
    """The first line (the second after a #! line) names the licence."""
    lines = text.splitlines() or [""]
    line = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
    if "SPDX-License-Identifier: Apache-2.0" not in line:
        yield 1, "no SPDX-License-Identifier line"


def rule_columns(path, text):
    """No line is longer than 100 columns."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line.expandtabs(TAB)) > COLUMNS:
            yield number, "longer than %d columns" % COLUMNS


def rule_blanks(path, text):
    """No blanks at a line's end; a newline at the file's end."""
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "no newline at the end of the file"


def rule_arrows(path, text):
    """Includes of src/ point down only."""
    here = folder_of(path)
    if path.startswith("include/"):
        for number, _, name in includes(text):
            if name.split("/")[0] in ARROWS:
                yield number, "a public header includes %s" % name
        return
    if not here:
        return
    if here not in ARROWS:
        yield 1, "src/%s has no line in ARROWS of tools/check_source.py" % here
        return
    for number, quote, name in includes(text):
        if ".." in name.split("/"):
            yield number, "include of %s: name it from src/" % name
        there = name.split("/")[0] if "/" in name else here
        if quote == "<" or there not in ARROWS or there == here:
            continue
        if there not in ARROWS[here]:
            yield number, "%s includes %s: this arrow does not point down" % (here, name)


def rule_banned(path, text):
    """Functions that are easily used wrongly."""
    if not path.endswith((".c", ".h")) or path.startswith("tests/"):
        return
    for number, line in enumerate(strip(text).splitlines(), 1):
        for m in CALL.finditer(line):
            if (m.group(1), folder_of(path)) not in BANNED_BUT:
                yield number, "%s() is not used here: %s" % (m.group(1), BANNED[m.group(1)])


def rule_guard(path, text):
    """A header has an include guard."""
    if path.endswith(".h") and not re.search(r"^#ifndef (\w+)\n#define \1\n", text, re.M):
        yield 1, "no include guard"


def rule_opening(path, text):
    """A .c file says in one sentence what it is."""
    if path.endswith(".c") and path.startswith("src/"):
        if not re.match(r"/\* SPDX[^\n]*\n/\*", text):
            yield 2, "no opening comment after the licence line"


RULES = [rule_licence, rule_columns, rule_blanks, rule_arrows, rule_banned, rule_guard,
         rule_opening]


def check_foreign(texts):
    """One file includes a foreign library's headers (src/ only)."""
    for library, pattern in FOREIGN.items():
        users = {}
        for path, text in texts.items():
            if not path.startswith(("src/", "include/")):
                continue
            for number, quote, name in includes(text):
                if pattern.match(name):
                    users.setdefault(path, number)
        for path in sorted(users)[1:]:
            yield path, users[path], "%s is included by %s already" % (library, sorted(users)[0])


def find_files(root):
    """Everything that git tracks or would, as paths from the root."""
    try:
        out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
        names = out.split("\n")
    except (OSError, subprocess.CalledProcessError):
        names = [os.path.relpath(os.path.join(d, f), root)
                 for d, _, files in os.walk(root) for f in files]
    for name in sorted(set(names)):
        parts = name.split("/")
        if parts[0] not in ROOTS and name not in ("Makefile", "meson.build"):
            continue
        if any(p in SKIPPED_FOLDERS for p in parts[:-1]):
            continue
        if name.endswith(TEXT_ENDINGS) or parts[-1] in TEXT_NAMES:
            if os.path.isfile(os.path.join(root, name)):
                yield name


def check(root):
    """The findings of a tree, as (path, line, message)."""
    findings, texts = [], {}
    for path in find_files(root):
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
            texts[path] = f.read()
        for rule in RULES:
            findings += [(path, number, message) for number, message in rule(path, texts[path])]
    findings += check_foreign(texts)
    return sorted(findings)


# ---- the checker's own test ------------------------------------------------------------------

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
C = SPDX + "/* A file. */\n"
# name; file; its text; part of the finding (None: there must be none)
PLANTED = [
    ("a clean file", "src/base/a.c", C + "int a(void)\n{\n\treturn 0;\n}\n", None),
    ("a missing licence line", "tools/a.py", "print(1)\n", "SPDX"),
    ("a licence line after #!", "tools/a.sh",
     "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n", None),
    ("a long line", "src/base/a.c", C + "/*" + "x" * 100 + "*/\n", "columns"),
    ("a line that tabs make long", "src/base/a.c", C + "\t" * 12 + "int a_name;\n", "columns"),
    ("a blank at a line's end", "src/base/a.c", C + "int a; \n", "blanks"),
    ("an arrow up", "src/base/a.c", C + '#include "machine/m.h"\n', "does not point down"),
    ("an arrow sideways", "src/agent/a.c", C + '#include "backend/b.h"\n', "does not point down"),
    ("a command that goes past the library", "src/cli/a.c", C + '#include "store/db.h"\n',
     "does not point down"),
    ("an arrow down", "src/machine/a.c", C + '#include "store/db.h"\n', None),
    ("an include by ..", "src/machine/a.c", C + '#include "../store/db.h"\n', "from src/"),
    ("an unknown folder", "src/news/a.c", C, "ARROWS"),
    ("a public header that needs src/", "include/smolvm/x.h",
     SPDX + '#ifndef X\n#define X\n#include "base/err.h"\n#endif\n', "public header"),
    ("a banned function", "src/base/a.c", C + "int a = atoi(s);\n", "atoi() is not used"),
    ("a banned name in a comment", "src/base/a.c", C + "/* not strcpy(a, b) */\n", None),
    ("a banned name in a string", "src/base/a.c", C + 'const char *a = "system(x)";\n', None),
    ("a member of a banned name", "src/base/a.c", C + "int x = ops->select(1);\n", None),
    ("a name that ends in a banned one", "src/base/a.c", C + "int x = my_system(1);\n", None),
    ("a header without a guard", "src/base/a.h", SPDX + "int a;\n", "include guard"),
    ("a file without an opening", "src/base/a.c", SPDX + "int a;\n", "opening comment"),
    ("one includer of sqlite3.h", "src/store/db.c", C + "#include <sqlite3.h>\n", None),
    ("a second includer of sqlite3.h", "src/store/other.c", C + "#include <sqlite3.h>\n",
     "included by src/store/db.c already"),
]


def self_test():
    failed = 0
    print("1..%d" % len(PLANTED))
    for number, (name, path, text, wanted) in enumerate(PLANTED, 1):
        with tempfile.TemporaryDirectory() as root:
            files = {path: text}
            if "second includer" in name:
                files["src/store/db.c"] = C + "#include <sqlite3.h>\n"
            for p, t in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, p)), exist_ok=True)
                with open(os.path.join(root, p), "w") as f:
                    f.write(t)
            found = [m for _, _, m in check(root)]
        good = not found if wanted is None else len(found) == 1 and wanted in found[0]
        failed += not good
        print("%s %d - source checker: %s" % ("ok" if good else "not ok", number, name))
        if not good:
            print("# found: %s" % found)
    return 1 if failed else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(
        os.path.abspath(__file__)))
    findings = check(root)
    for path, number, message in findings:
        print("%s:%d: %s" % (path, number, message))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
