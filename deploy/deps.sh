#!/usr/bin/env bash
# Installs the Debian packages named, unless the program each is wanted for is there already. Says what it does.
# Without root or sudo it names what is missing and stops.
set -euo pipefail

# The program, or file, that a package is wanted for.
program() {
  case "$1" in
    sip-tester) echo sipp ;;
    baresip-core) echo baresip ;;
    postgresql) echo /usr/lib/postgresql/15/bin/postgres ;;
    python3-aiosmtpd) echo /usr/lib/python3/dist-packages/aiosmtpd/__init__.py ;;
    libnet-smpp-perl) echo /usr/share/perl5/Net/SMPP.pm ;;
    libc6-dev) echo /usr/include/stdlib.h ;; # which gcc only recommends
    *) echo "$1" ;;
  esac
}

missing=()
for package in "$@"; do
  wanted=$(program "$package")
  [ -e "$wanted" ] || command -v "$wanted" >/dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
  as_root=()
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
  as_root=(sudo)
else
  echo "Missing: ${missing[*]}. Install them with: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "Installing from Debian's packages, once: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
