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

# A release for two platforms. What another machine would have built is the same tree, said to be for its platform.
case $archive in *-linux-amd64.tar.gz) here=amd64 there=arm64 ;; *) here=arm64 there=amd64 ;; esac
foreign=$work/foreign
mkdir "$foreign" "$work/tree"
tar xzf "$archive" -C "$work/tree"
sed -i "s/^  \"platform\": \"linux-$here\"/  \"platform\": \"linux-$there\"/" "$work/tree/manifest.json"
tar tzf "$archive" | tar --create --no-recursion --owner=0 --group=0 --numeric-owner -C "$work/tree" --files-from=- |
  gzip -n >"$foreign/$(basename "$archive" | sed "s/-$here\./-$there./")"
cp "$work/tree/bin/llm-cli-gateway" "$foreign/$(basename "$manager" | sed "s/-$here\$/-$there/")"

# Ends well when a command is refused with a sentence.
refused() {
  local sentence=$1 said
  shift
  ! said=$("$@" 2>&1) || { echo "it was not refused"; return 1; }
  echo "$said"
  grep -qF -- "$sentence" <<<"$said"
}
# A copy of a folder, to be damaged.
copy_of() { rm -rf "$work/copy" && cp -pR "$1" "$work/copy"; }

check "describes what was built from the files alone" releases/compose "$foreign"
check "puts two platforms into one folder" releases/compose "$work/both" "$work/first" "$foreign"
check "gives the same bytes in the other order" bash -c "
  releases/compose '$work/turned' '$foreign' '$work/first' && diff -r '$work/both' '$work/turned'"
check "builds into a folder that has the other platform" bash -c "
  cp -pR '$foreign' '$work/grown' && releases/build --skip-build --output '$work/grown' && diff -r '$work/both' '$work/grown'"
echo proof >"$work/grown/SHA256SUMS.sigstore.json"
check "builds into it again, and keeps the signature of the same checksums" bash -c "
  releases/build --skip-build --output '$work/grown' && grep -qx proof '$work/grown/SHA256SUMS.sigstore.json'"
check "removes the signature of other checksums" bash -c "
  cp -pR '$work/first' '$work/signed' && echo proof >'$work/signed/SHA256SUMS.sigstore.json' &&
  releases/compose '$work/signed' '$foreign' && diff -r '$work/both' '$work/signed'"
check "says a digest that fits every file of both" bash -c "
  cd '$work/both' && sha256sum --check --strict SHA256SUMS && test \$(wc -l <SHA256SUMS) -eq 5"
if [ -x "$validator" ]; then
  check "has a release manifest of the published form" "$validator" -c '
import json, sys, jsonschema
schema = json.load(open("releases/release-manifest.schema.json"))
jsonschema.Draft202012Validator.check_schema(schema)
manifest = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator(schema).validate(manifest)
assert [(file["arch"], file["role"]) for file in manifest["artifacts"]] == [
    (arch, role) for arch in ("amd64", "arm64") for role in ("manager", "platform-bundle")]
assert {name for name in manifest["setup_commands"] if name.startswith("install")} == {"install_linux_amd64", "install_linux_arm64"}' \
    "$work/both/release-manifest.json"
fi
mkdir -p "$work/index"
cp -pR "$work/both" "$work/index/any-name"
check "lists it once" bash -c "releases/index '$work/index' | grep -F '1 releases'"
if [ -x "$validator" ]; then
  # What releases/build and releases/index write, by the published schemas; each schema must also refuse something.
  check "has a list and manifests of the published forms" "$validator" -c '
import json, sys, jsonschema
for name, paths in (("release-index", sys.argv[1:2]), ("release-manifest", sys.argv[2:])):
    schema = json.load(open(f"releases/{name}.schema.json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in paths:
        document = json.load(open(path))
        validator.validate(document)
        for member in schema["required"]:
            assert not validator.is_valid({key: value for key, value in document.items() if key != member}), (path, member)' \
    "$work/index/releases.json" "$work/first/release-manifest.json" "$work/both/release-manifest.json"
else
  echo "skip - list and manifest against their schemas: no validator at '$validator'; run setup/test-tools"
fi
for way in "--from $work/both" "--source $work/both" "--source $work/index"; do
  rm -rf "$work/home"
  mkdir "$work/home"
  # shellcheck disable=SC2086 # an option and its value
  check "installs its own platform of the two, ${way%% *} $(basename "${way#* }")" \
    status 0 "$manager" install-bundle $way --sha256 "$digest"
  check "which starts" manage "$work/home/.local/bin/llm-cli-gateway" version
done
check "refuses the other platform's bundle" refused "linux-$there" \
  manage "$manager" install-bundle --url "file://$(ls "$foreign"/*.tar.gz)" --sha256 "$(sha256sum "$foreign"/*.tar.gz | cut -d' ' -f1)"

copy_of "$work/both"
printf x >>"$work/copy/$(basename "$foreign"/*bundle*)"
cp -pR "$work/copy" "$work/damaged"
check "refuses to add to a damaged bundle of the other platform" refused "is damaged: its SHA-256 is" releases/compose "$work/copy" "$work/first"
check "and changes nothing then" diff -r "$work/damaged" "$work/copy"
check "replaces a damaged bundle of the platform that is added" bash -c "
  releases/compose '$work/copy' '$foreign' && diff -r '$work/both' '$work/copy'"
rm "$work/copy/$(basename "$foreign"/*bundle*)"
check "refuses a folder that lacks a file" refused "is missing, but release-manifest.json lists it" releases/compose "$work/copy"
copy_of "$work/both"
sed -i 's/"public_base": ""/"public_base": "https:\/\/elsewhere.example"/' "$work/copy/release-manifest.json"
check "refuses a release manifest that its checksums do not know" refused "does not fit the release-manifest.json" \
  releases/compose "$work/copy" "$work/first"
sed -i 's/"notes"/"note"/' "$work/copy/release-manifest.json"
check "refuses a release manifest that was edited" refused "is not as it was written" releases/compose "$work/copy" "$work/first"
copy_of "$work/both"
rm "$work/copy/SHA256SUMS"
check "builds into a folder where a build was interrupted" bash -c "
  releases/compose '$work/copy' '$work/first' && diff -r '$work/both' '$work/copy'"
rm "$work/copy/SHA256SUMS" "$work/copy/release-manifest.json"
check "refuses to add to files for which nothing vouches" refused "no release-manifest.json vouches for them" \
  releases/compose "$work/copy" "$work/first"
copy_of "$work/first"
cp -p "$foreign"/llm-cli-gateway-* "$work/copy"
check "refuses files that the release manifest does not list" refused "is not listed in the release-manifest.json beside it" releases/compose "$work/copy"
check "refuses two builds of one platform" refused "than a folder before it" bash -c "
  mkdir '$work/twin' && cp -p '$work/first'/llm-cli-gateway-* '$work/twin' && gzip -dc '$archive' | gzip -n -1 >'$work/twin/$(basename "$archive")' &&
  releases/compose '$work/three' '$work/first' '$work/twin'"
check "refuses builds with other variables" refused "is to be signed by 'somebody'" bash -c "
  mkdir '$work/vouched' && cp -p '$foreign'/llm-cli-gateway-* '$work/vouched' &&
  RELEASE_SIGNING_IDENTITY=somebody releases/compose '$work/vouched' && releases/compose '$work/four' '$work/first' '$work/vouched'"
check "refuses a manager that is not the bundle's" refused "is another manager than the one in" bash -c "
  mkdir '$work/mixed' && cp -p '$foreign'/llm-cli-gateway-* '$work/mixed' && echo >>'$work/mixed/$(basename "$manager" | sed "s/-$here\$/-$there/")' &&
  releases/compose '$work/mixed'"
# Another version: the tree again, renamed.
sed -i 's/^  "version": ".*"/  "version": "99.0.0"/' "$work/tree/manifest.json"
mkdir "$work/later"
tar tzf "$archive" | tar --create --no-recursion -C "$work/tree" --files-from=- | gzip -n >"$work/later/llm-cli-gateway-bundle-99.0.0-linux-$there.tar.gz"
cp "$work/tree/bin/llm-cli-gateway" "$work/later/llm-cli-gateway-99.0.0-linux-$there"
check "refuses another version for another platform" refused "is of version '99.0.0', but the rest is of version" \
  releases/compose "$work/first" "$work/later"
check "replaces another version for the same platform" bash -c "
  cp -pR '$foreign' '$work/replaced' && releases/compose '$work/later' && releases/compose '$work/replaced' '$work/later' &&
  diff -r '$work/replaced' '$work/later'"

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
