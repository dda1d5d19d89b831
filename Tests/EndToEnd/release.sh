#!/bin/bash
# A release as a user meets it: packed twice to the same bytes, checked, installed into an empty home, refused when it is
# not what was asked for. With LLM_GATEWAY_DEEP_TESTS it is also built from a second place and compared.
set -uo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# Runs a check and says how it ended, with its output when it failed.
check() {
  local title=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    echo "ok - $title"
  else
    echo "not ok - $title"
    sed 's/^/    /' "$work/log"
    failed=1
  fi
}

[ -d .build/releases/build ] || { echo "skip - no release was built: run releases/build"; exit 77; }
check "packs a release" releases/build --skip-build --output "$work/first"
check "packs it again" releases/build --skip-build --output "$work/second"
check "gives the same bytes twice" diff -r "$work/first" "$work/second"
check "says a digest that fits every file" bash -c "cd '$work/first' && sha256sum --check --strict SHA256SUMS"
check "writes an index that is JSON" python3 -m json.tool "$work/first/release-manifest.json"

archive=$(ls "$work"/first/*bundle*.tar.gz)
manager=$(ls "$work"/first/llm-cli-gateway-[0-9]*-linux-* | head -1)
digest=$(sha256sum "$archive" | cut -d' ' -f1)
check "lists exactly the files of the bundle in its manifest" bash -c "
  diff <(tar tzf '$archive' | grep -vx manifest.json | sort) \
    <(tar xzOf '$archive' manifest.json | python3 -c 'import json,sys; [print(f[\"path\"]) for f in json.load(sys.stdin)[\"files\"]]' | sort)"

# The published schema, by a validator that nobody here wrote.
validator=$(setup/test-tools --where)/schema/bin/python
if [ -x "$validator" ]; then
  check "has a manifest of the published form" bash -c "
    tar xzOf '$archive' manifest.json | '$validator' -c '
import json, sys, jsonschema
schema = json.load(open(\"releases/manifest.schema.json\"))
jsonschema.Draft202012Validator.check_schema(schema)
jsonschema.Draft202012Validator(schema).validate(json.load(sys.stdin))'"
else
  echo "skip - the manifest against its schema: no validator at '$validator'; run setup/test-tools"
fi

manage() { env -i PATH=/usr/bin:/bin HOME="$work/home" "$@"; }
mkdir "$work/home"
status() {
  local expected=$1
  shift
  manage "$@"
  local got=$?
  [ $got -eq "$expected" ] || { echo "status $got, expected $expected"; return 1; }
}
chmod +x "$manager"
check "refuses the bundle under another digest with status 3" \
  status 3 "$manager" install-bundle --url "file://$archive" --sha256 "${digest//[0-9]/0}"
check "leaves nothing in use then" test ! -e "$work/home/.llm-cli-gateway/current"
check "installs the bundle" status 0 "$manager" install-bundle --url "file://$archive" --sha256 "$digest"
check "installs a gateway that starts" manage "$work/home/.llm-cli-gateway/current/bin/llm-gateway" --version
check "installs a manager that starts through its link" manage "$work/home/.local/bin/llm-cli-gateway" version
check "has nothing to repair afterwards" status 0 "$manager" repair --dry-run
check "refuses a damaged bundle with status 3" bash -c "
  head -c 1000000 '$archive' >'$work/cut.tar.gz'
  env -i PATH=/usr/bin:/bin HOME='$work/home' '$manager' install-bundle --url 'file://$work/cut.tar.gz' \
    --sha256 \$(sha256sum '$work/cut.tar.gz' | cut -d' ' -f1); test \$? -eq 3"

if [ -n "${LLM_GATEWAY_DEEP_TESTS:-}" ]; then
  place=$work/a/longer/way/to/another/checkout
  mkdir -p "$place"
  cp -R Package.swift Sources Tests setup releases "$place"
  epoch=$(git log -1 --format=%ct)
  check "builds in another place" env SOURCE_DATE_EPOCH="$epoch" "$place/releases/build" --output "$work/elsewhere"
  check "packs here with the same time" env SOURCE_DATE_EPOCH="$epoch" releases/build --output "$work/here"
  check "gives the same bytes from both places" diff -r "$work/here" "$work/elsewhere"
fi
exit $failed
