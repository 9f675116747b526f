#!/bin/sh
# Makes src/generated anew from the specification. It needs Go and what npm ci has installed, and no network.
set -eu
cd "$(dirname "$0")"
[ -x node_modules/.bin/openapi-ts ] || npm ci --no-audit --no-fund
mkdir -p build
(cd ../.. && go run sdk/typescript/spec.go) >build/openapi.yaml
node_modules/.bin/openapi-ts --file openapi-ts.config.js --silent
