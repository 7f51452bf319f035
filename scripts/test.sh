#!/usr/bin/env bash
# Runs every test: installs the programs that the tests need if they are
# missing, then checks format, vets, lints, tests, and fuzzes each fuzz target
# with a few inputs. Ends with one summary line; the exit code is 0 only if
# every stage passed.
#
#   FUZZTIME=30s scripts/test.sh     fuzz longer (default 2000 inputs a target; 0: not)
#   scripts/test.sh vet test         only these stages, of:
#                                    need gofmt vet staticcheck test fuzz
set -euo pipefail
cd "$(dirname "$0")/.."

# What the tests call, as command:Debian-package.
needs=(
  chromium:chromium
  curl:curl
  ffmpeg:ffmpeg
  ip:iproute2
  mpv:mpv
  nft:nftables
  pg_ctlcluster:postgresql
  strace:strace
)
test_timeout=40m
fuzz_time=${FUZZTIME:-2000x} # a count: at the end of a time go test may fail without a finding

need() {
  local missing=() n
  for n in "${needs[@]}"; do
    command -v "${n%%:*}" >/dev/null || missing+=("${n#*:}")
  done
  ((${#missing[@]})) || return 0
  if ! command -v apt-get >/dev/null; then
    echo "the tests need these programs, install them and run again: ${missing[*]}" >&2
    return 1
  fi
  if ((EUID != 0)); then
    echo "the tests need these packages, install them and run again:" >&2
    echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    return 1
  fi
  echo "installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# sources lists the Go files of this checkout, new ones included.
sources() {
  find . \( -name '.?*' -o -name testdata \) -prune -o -name '*.go' -type f -print
}

check_gofmt() {
  local bad
  bad=$(sources | xargs gofmt -l) || return 1
  [[ -z $bad ]] && return 0
  echo "not formatted, run gofmt -w on:"
  echo "$bad"
  return 1
}

check_vet() { go vet ./...; }

check_staticcheck() { go tool -modfile=tools/go.mod staticcheck ./...; }

check_test() { go test -timeout "$test_timeout" ./...; }

# check_fuzz fuzzes the targets one after the other: each takes all cores.
check_fuzz() {
  [[ $fuzz_time == 0 || $fuzz_time == 0s ]] && return 0
  local dirs dir list target log failed=0
  dirs=$(sources | xargs grep -l '^func Fuzz' | xargs -r -n1 dirname | sort -u) || true # grep: none is no error
  log=$(mktemp)
  for dir in $dirs; do
    list=$(go test -list '^Fuzz' "$dir") || return 1
    for target in $(grep '^Fuzz' <<<"$list" || true); do
      if go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzz_time" -fuzzminimizetime 10x "$dir" >"$log" 2>&1; then
        echo "ok $dir $target"
      else
        echo "FAIL $dir $target"
        cat "$log"
        failed=1
      fi
    done
  done
  rm -f "$log"
  return "$failed"
}

begin=$SECONDS
passed=() failed=()

# stage runs one stage and notes how it went; it does not end the script, so
# that one run shows all that is wrong.
stage() {
  local name=$1 start=$SECONDS
  echo "== $name"
  if "${@:2}"; then
    passed+=("$name")
    echo "== $name: ok, $((SECONDS - start)) s"
  else
    failed+=("$name")
    echo "== $name: FAILED, $((SECONDS - start)) s"
  fi
}

stages=("$@")
((${#stages[@]})) || stages=(need gofmt vet staticcheck test fuzz)
for s in "${stages[@]}"; do
  case $s in
    need) stage need need ;;
    gofmt | vet | staticcheck | test | fuzz) stage "$s" "check_$s" ;;
    *) echo "unknown stage $s: choose of need gofmt vet staticcheck test fuzz" >&2; exit 2 ;;
  esac
  # Without its programs the tests would only fail for another reason.
  [[ $s == need && ${#failed[@]} -gt 0 ]] && break
done

if ((${#failed[@]})); then
  echo "FAILED: ${failed[*]} (passed: ${passed[*]:-none}) in $((SECONDS - begin)) s"
  exit 1
fi
echo "PASSED: ${passed[*]} in $((SECONDS - begin)) s"
