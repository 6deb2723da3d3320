#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Completion scripts do complete, in the shells that are there; manual pages of single commands.
set -u
smolvm=${SMOLVM_BUILD:-build}/smolvm
[ "${smolvm#/}" != "$smolvm" ] || smolvm=$PWD/$smolvm
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin"
ln -s "$smolvm" "$folder/bin/smolvm"
PATH=$folder/bin:$PATH
export SMOLVM_HOME=$folder/home
number=0

# check NAME WANTED FOUND: every word of WANTED is among those of FOUND, of "!word" none is.
check() {
	number=$((number + 1))
	local word verdict=ok
	for word in $2; do
		case $word in
		!*) [[ " $3 " == *" ${word#!} "* ]] && verdict="not ok" ;;
		*) [[ " $3 " == *" $word "* ]] || verdict="not ok" ;;
		esac
	done
	echo "$verdict $number - $1"
	[ "$verdict" = ok ] || echo "# wanted: $2; found: ${3:0:500}"
}

skip() {
	number=$((number + 1))
	echo "ok $number - $1 # SKIP $2"
}

in_bash() {
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	_smolvm
	echo "${COMPREPLY[*]}"
}

in_fish() {
	fish -c "smolvm completion fish | source; complete -C '$1'" | cut -f1 | tr '\n' ' '
}

# CASE|WORDS OF THE COMMAND LINE|WANTED
cases="first words|smolvm |sandbox image doctor version help completion !man !complete-images
the beginning of one|smolvm do|doctor !image
a group's commands|smolvm image |ls import inspect rm
options|smolvm sandbox run --|--cpus --env-file --volume --help !--json
the beginning of an option|smolvm sandbox run --mem|--mem !--cpus
an option after another|smolvm sandbox run --cpus 2 --re|--read-only
options of a command of one word|smolvm doctor --|--json --strict --backend
fixed words|smolvm completion |bash zsh fish"

# shellcheck disable=SC1090 # made by the program
source <("$smolvm" completion bash)
while IFS='|' read -r name line wanted; do
	read -ra words <<<"$line"
	[ "${line% }" = "$line" ] || words+=("")
	check "bash: $name" "$wanted" "$(in_bash "${words[@]}")"
	if command -v fish >/dev/null; then
		check "fish: $name" "$wanted" "$(in_fish "$line")"
	else
		skip "fish: $name" "no fish"
	fi
done <<<"$cases"
check "bash: the command in the sandbox is not ours" "!--cpus" \
	"$(in_bash smolvm sandbox run image ls --)"
check "bash: a value of an option" "!--cpus" "$(in_bash smolvm sandbox run --name -)"

if command -v zsh >/dev/null; then
	check "zsh: the script loads" "_smolvm" \
		"$(zsh -fc 'autoload -U compinit; compinit -D; source <(smolvm completion zsh)
			echo $_comps[smolvm]' 2>&1)"
else
	skip "zsh: the script loads" "no zsh"
fi

for name in "sandbox run" "image ls" "image import" "image inspect" "image rm" doctor version \
	help completion; do
	# shellcheck disable=SC2086 # two words
	if ! command -v mandoc >/dev/null; then
		skip "manual page of $name" "no mandoc"
	elif complaint=$(smolvm man $name | mandoc -T lint -W warning 2>&1); then
		check "manual page of $name" "" ""
	else
		check "manual page of $name" "clean" "$complaint"
	fi
done
echo "1..$number"
