#!/bin/bash
# Runs the end-to-end tests with the daemons as the units that ship, on a machine of its own: systemd of SUITE (bookworm, trixie or noble) as
# process 1 of a privileged container, with its own dockerd; then what else is judged there: tests/tests/units.rs, tests/tests/operations. More words are for the test program: names, `--nocapture`.
# The machine is removed at the end; `KEEP=yes` leaves it for a look.
set -euo pipefail
me=${0##*/}
cd "$(dirname "$0")/.."
. tools/machine.sh

suite=${1:-}
shift || true
tools/make-vm-image.sh "$suite"
machine_start "$suite"
machine_install
echo "$me: the end-to-end tests under units of $(machine systemctl --version | head -n 1) in $machine"
machine_test e2e --test-threads 4 "$@"
if [ $# = 0 ]; then
    machine_test units --ignored --test-threads 1
    machine_test operations --ignored --test-threads 1
    # Once: they are the kernel's and the Engine's, which are the same on both.
    [ "$suite" != trixie ] || machine_test caps --ignored --test-threads 1
fi
