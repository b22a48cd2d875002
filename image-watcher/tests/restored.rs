//! The watcher on a disk that was put back to an earlier day: what protects against replays, the highest sequence of each channel,
//! is then lower than what the machine has seen. What is shown in the channel file counts too; where that is of the earlier day as
//! well, nothing on the machine can tell (docs/operations.md says what to do).

mod support;

use std::fs;

use landfall_core::ids::Digest;
use support::fake::Fake;
use support::{Bundle, Vm};

const QUICK: &str = "poll: 200ms";

/// Publishes a release of that sequence.
fn publish(fake: &Fake, sequence: u64) -> Digest {
    let compose = format!("services: {{ a: {{ labels: {{ n: \"{sequence}\" }} }} }}\n");
    fake.serve_bundle(&Bundle::new(&compose).sequence(&fake.channel(), sequence))
}

/// A machine that had 5, of which a copy of the state and of the channel file is kept, and then 9.
fn machine() -> (Fake, Vm, [Vec<u8>; 2]) {
    let fake = Fake::start();
    let mut vm = Vm::new(&fake.channel(), QUICK);
    vm.start();
    vm.wait_for_digest(&publish(&fake, 5));
    let copy = [vm.layout.watcher_state(), vm.layout.channel(&vm.app)].map(|path| fs::read(path).unwrap());
    vm.wait_for_digest(&publish(&fake, 9));
    (fake, vm, copy)
}

#[test]
fn an_older_record_is_outweighed_by_what_is_shown() {
    for restarted in [true, false] {
        let (fake, mut vm, [state, _]) = machine();
        let shown = vm.channel().unwrap().release;
        if restarted {
            vm.kill();
        }
        fs::write(vm.layout.watcher_state(), &state).unwrap();
        publish(&fake, 7);
        if restarted {
            vm.start();
        }
        let refused = vm.wait_for_problem("sequence 7 is older than 9");
        assert_eq!(refused.release, shown);
        vm.wait_for_digest(&publish(&fake, 10));
        let written = fs::read_to_string(vm.layout.watcher_state()).unwrap();
        assert!(written.contains(&format!("\"{}\":10", fake.channel())), "{written}");
    }
}

/// Both files of the earlier day: a release from between is taken. From there on the machine is safe again.
#[test]
fn a_whole_disk_of_an_earlier_day_knows_no_later_one() {
    let (fake, mut vm, [state, channel]) = machine();
    vm.kill();
    fs::write(vm.layout.watcher_state(), &state).unwrap();
    fs::write(vm.layout.channel(&vm.app), &channel).unwrap();
    let between = publish(&fake, 7);
    vm.start();
    assert_eq!(vm.wait_for_digest(&between).sequence, Some(7));
    publish(&fake, 6);
    vm.wait_for_problem("sequence 6 is older than 7");
}
