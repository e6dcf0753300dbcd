#!/bin/sh
# Runs the program natively, as a host would: `sh test.sh`.
set -eu
cd "$(dirname "$0")"
mkdir -p target
${CC:-cc} -std=c17 -Wall -Wextra -o target/native ./*.c

# expect PART METHOD PATH: the response holds PART.
expect() {
    answer=$(REQUEST_METHOD=$2 PATH_INFO=$3 ./target/native)
    case $answer in
    *"$1"*) ;;
    *) printf '%s %s: expected "%s" in:\n%s\n' "$2" "$3" "$1" "$answer" >&2; exit 1 ;;
    esac
}

expect 'Hello, Ada!' GET /Ada
expect 'Status: 400' GET "/$(printf '%051d' 0)"
expect 'Status: 405' POST /Ada
echo 'all passed'
