#!/usr/bin/env bash
# Fetches the libraries of the dashboard from npm, exactly these versions, and writes them beside this script as the page takes them:
# as they were published, but for a line that says what they are, the names by which they find each other, and source maps.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

PREACT=11.2.0
HTM=3.1.1
UPLOT=1.6.32

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# package NAME VERSION: unpacks it, and keeps its licence.
package() {
  mkdir "$scratch/$1"
  (cd "$scratch" && npm pack --silent "$1@$2" >/dev/null)
  tar -xzf "$scratch/$1-$2.tgz" -C "$scratch/$1" --strip-components=1
  cp "$scratch/$1/LICENSE" "LICENSE-$1"
}

# file TO NAME VERSION LICENCE FROM
file() {
  {
    echo "/* $2 $3, $4, $5: see LICENSE-$2 and README.md */"
    sed -e 's#from"preact"#from"./preact.js"#' -e '/^\/\/# sourceMappingURL=/d' "$scratch/$2/$5"
  } >"$1"
}

package preact "$PREACT"
package htm "$HTM"
package uplot "$UPLOT"
file preact.js preact "$PREACT" MIT dist/preact.mjs
file hooks.js preact "$PREACT" MIT hooks/dist/hooks.mjs
file htm.js htm "$HTM" Apache-2.0 dist/htm.module.js
file uplot.js uplot "$UPLOT" MIT dist/uPlot.esm.js
file uplot.css uplot "$UPLOT" MIT dist/uPlot.min.css
