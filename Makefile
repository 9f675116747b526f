# Bare `make` lists the targets. Everything here works on a bare Debian 12 with Go and root or sudo; what else is
# needed is installed from Debian's packages by deploy/deps.sh, once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hookswitch/tools
GOLANGCI_VERSION := v2.15.0
VERSITYGW_VERSION := v1.8.0
PEBBLE_VERSION := v2.10.1
GOLANGCI := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)
VERSITYGW := $(TOOLS)/versitygw-$(VERSITYGW_VERSION)
PEBBLE := $(TOOLS)/pebble-$(PEBBLE_VERSION)

# The tests start these programs; they find the S3 server and the ACME server by these variables.
export HOOKSWITCH_TEST_VERSITYGW := $(VERSITYGW)
export HOOKSWITCH_TEST_PEBBLE := $(PEBBLE)

# What the race detector does not watch: SQLite, which is C turned into Go, and whose memory is not Go's, so that it would see
# no race in it; and the sums over the 64 MiB of a password's hash. Both took most of the processor's time of the tests that
# use them. SQLite's driver and all that is ours are watched.
UNWATCHED := modernc.org/sqlite/lib modernc.org/libc modernc.org/memory golang.org/x/crypto/argon2
RACE := GOFLAGS="$${GOFLAGS-} $(UNWATCHED:%=-gcflags=%=-race=false)" go test -race

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: deps-run build ## set up and start everything on the embedded default: SIP 5060, API and docs on 127.0.0.1:8080
	bin/hookswitch up $(ARGS)

.PHONY: build
build: ## bin/hookswitch, one static binary
	CGO_ENABLED=0 go build -trimpath -o bin/hookswitch ./deploy/cmd/hookswitch

# One package more at a time than there are processors: many tests mostly wait. What go vet finds, check has found.
.PHONY: test
test: deps-test tools build ## set up and run every test: units, virtual-time calls, both databases, SIPp, baresip, the SDK
	export HOOKSWITCH_CALLED=$$(mktemp -d); trap 'rm -r "$$HOOKSWITCH_CALLED"' EXIT; \
		$(RACE) -vet=off -p $$(( $$(nproc) + 1 )) -timeout 15m ./... && go test -tags operations -run '^TestEveryOperationIsCalled$$' ./deploy
	cd sdk/typescript && npm ci --silent --no-audit --no-fund && HOOKSWITCH_BINARY=$(CURDIR)/bin/hookswitch npm test --silent

.PHONY: check
check: deps-run tools ## formatting, vet, linters, the architecture, the specification, generated files
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "run gofmt -w on:"; echo "$$out"; exit 1; fi
	go vet ./...
	$(GOLANGCI) run ./...
	go test -count=1 -run 'TestArchitecture|TestEdgeCarriesNoDriver' ./deploy
	go test -count=1 ./openapi
	go generate ./...
	cd sdk/typescript && npm ci --silent --no-audit --no-fund && ./generate.sh && npm run --silent check
	@out=$$(git status --porcelain -- edge/prompt sdk/typescript/src/generated); \
		if [ -n "$$out" ]; then echo "generated files are not clean: commit what make generate makes"; echo "$$out"; exit 1; fi

.PHONY: e2e
e2e: deps-test tools build ## only the suites that drive the built binary with SIPp, baresip and hookswitch call
	$(RACE) -count=1 -timeout 15m ./deploy/e2e/...

.PHONY: bench
bench: deps-bench build ## load the built binary with a generator that verifies every stream, and its API; see deploy/bench/README.md
	go build -trimpath -o bin/hookswitch-bench ./deploy/bench
	bin/hookswitch-bench $(ARGS)

.PHONY: generate
generate: deps-run ## make the system prompts anew from their texts, and the SDKs from the specification
	go generate ./...
	sdk/typescript/generate.sh

.PHONY: tools
tools: $(GOLANGCI) $(VERSITYGW) $(PEBBLE) ## build the pinned tools into the cache

$(GOLANGCI):
	GOBIN=$(TOOLS)/new go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(TOOLS)/new/golangci-lint $@

$(VERSITYGW):
	GOBIN=$(TOOLS)/new go install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)
	mv $(TOOLS)/new/versitygw $@

$(PEBBLE):
	GOBIN=$(TOOLS)/new go install github.com/letsencrypt/pebble/v2/cmd/pebble@$(PEBBLE_VERSION)
	mv $(TOOLS)/new/pebble $@

.PHONY: deps-run deps-test deps-bench
deps-run:
	@deploy/deps.sh espeak-ng

deps-bench:
	@deploy/deps.sh espeak-ng postgresql

deps-test:
	@deploy/deps.sh espeak-ng sip-tester baresip-core postgresql redis-server python3-aiosmtpd libnet-smpp-perl gcc libc6-dev
