//! What else of the machine our promises rest on: its clock, who is as good as root by Docker's group, and memory that is never swapped.

use landfall_core::command::Output;
use landfall_core::config::Settings;
use landfall_core::secrets_mount::{self, Unfit};

use super::finding::{Finding, Subject};
use super::machine::Machine;

const TIMEDATECTL: &str = "usr/bin/timedatectl";
/// Whoever is in it owns the machine.
const GROUP: &str = "docker";
/// The one that must be.
const AGENT: &str = "landfall-agent";

/// The clock.
pub async fn clock(machine: &Machine) -> Finding {
    let asked = match machine.needs_systemd() {
        Some(why) => Err(why),
        None => machine.run(TIMEDATECTL, &["show", "--property=NTPSynchronized"]).await,
    };
    judge_clock(asked)
}

fn judge_clock(asked: Result<Output, String>) -> Finding {
    let subject = Subject::new("clock", "the clock is kept right");
    match asked {
        Err(why) => subject.skip(why),
        Ok(output) if !output.success() => subject.skip(output.last_words()),
        Ok(output) => match String::from_utf8_lossy(&output.stdout).trim() {
            "NTPSynchronized=yes" => subject.pass("synchronised"),
            "NTPSynchronized=no" => subject.warn(
                "not synchronised: tokens, certificates and ages are judged by it",
                "`timedatectl timesync-status`, or install `systemd-timesyncd` or `chrony`",
            ),
            other => subject.skip(format!("timedatectl said `{other}`")),
        },
    }
}

/// Who is in group `docker`.
pub fn docker_group(machine: &Machine) -> Finding {
    judge_group(machine.read("etc/group").as_deref(), machine.read("etc/passwd").as_deref())
}

fn judge_group(group: Option<&str>, passwd: Option<&str>) -> Finding {
    let subject = Subject::new("docker-group", format!("nobody but `{AGENT}` is in group `{GROUP}`"));
    let (Some(group), Some(passwd)) = (group, passwd) else {
        return subject.skip("cannot read /etc/group and /etc/passwd");
    };
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let Some(line) = group.lines().map(fields).find(|fields| fields.first().is_some_and(|name| name == GROUP)) else {
        return subject.pass("there is no such group");
    };
    let id = line.get(2).cloned().unwrap_or_default();
    let mut members: Vec<String> =
        line.get(3).map(|all| all.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let whose_own = passwd.lines().map(fields).filter(|fields| fields.get(3) == Some(&id));
    members.extend(whose_own.filter_map(|fields| fields.first().cloned()));
    members.retain(|name| !name.is_empty() && name != AGENT);
    members.sort();
    members.dedup();
    match members.first() {
        None => subject.pass("by /etc/group"),
        Some(first) => subject.fail(
            format!("{}: as good as root, past every rule here", members.join(", ")),
            format!("`gpasswd --delete {first} {GROUP}`; who operates is in group `landfall-operators`"),
        ),
    }
}

/// The memory of secrets.
pub fn memory(machine: &Machine, settings: Option<&Settings>) -> Finding {
    judge_memory(secrets_mount::check(&machine.layout.secrets()), settings.map(|settings| !settings.vaults.is_empty()))
}

/// `has_vaults` where the settings could be read.
fn judge_memory(looked: Result<(), Unfit>, has_vaults: Option<bool>) -> Finding {
    let subject = Subject::new("secrets-memory", "the memory of secrets is never swapped out");
    match looked {
        Ok(()) => subject.pass("no swap, or a mount that is kept out of it"),
        Err(Unfit::Absent { .. } | Unfit::OnDisk { .. }) if has_vaults != Some(true) => {
            subject.skip(match has_vaults {
                Some(_) => "no vault is configured",
                None => "the settings cannot be read",
            })
        }
        Err(unfit) => {
            let text = unfit.to_string();
            let (seen, next) = text.split_once("; next: ").unwrap_or((&text, "`sudo landfall host`"));
            subject.fail(seen, next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn only_the_agent_may_be_in_the_group() {
        let passwd = "root:x:0:0::/:/bin/sh\nlandfall-agent:x:990:990::/:/x\nann:x:1000:1000::/home/ann:/bin/sh\n";
        let own = "bob:x:1001:999::/home/bob:/bin/sh\n";
        for (group, passwd, grade, word) in [
            ("docker:x:999:\n", passwd, Grade::Pass, ""),
            ("docker:x:999:landfall-agent\n", passwd, Grade::Pass, ""),
            ("root:x:0:\n", passwd, Grade::Pass, "no such group"),
            ("dockerroot:x:999:ann\n", passwd, Grade::Pass, "no such group"),
            ("docker:x:999:landfall-agent,ann\n", passwd, Grade::Fail, "ann:"),
            ("docker:x:999:\n", own, Grade::Fail, "bob:"),
            ("docker:x:999:bob\n", own, Grade::Fail, "bob:"),
        ] {
            let found = judge_group(Some(group), Some(passwd));
            assert_eq!(found.grade, grade, "{group}");
            assert!(found.seen.contains(word), "{group}: {}", found.seen);
        }
        assert_eq!(judge_group(None, Some(passwd)).grade, Grade::Skip);
    }

    #[test]
    fn a_clock_that_nobody_sets_is_told() {
        let output = |code, text: &str| Ok(Output { code, stdout: text.as_bytes().to_vec(), stderr: String::new() });
        for (asked, grade) in [
            (output(0, "NTPSynchronized=yes\n"), Grade::Pass),
            (output(0, "NTPSynchronized=no\n"), Grade::Warn),
            (output(0, ""), Grade::Skip),
            (output(1, "NTPSynchronized=yes\n"), Grade::Skip),
            (Err("no systemd".to_owned()), Grade::Skip),
        ] {
            assert_eq!(judge_clock(asked.clone()).grade, grade, "{asked:?}");
        }
    }

    #[test]
    fn memory_that_may_be_swapped_fails_and_absent_memory_only_where_it_is_needed() {
        let on_disk = || Unfit::OnDisk { path: "/x".into(), mode: "0700" };
        for (looked, has_vaults, grade) in [
            (Ok(()), Some(true), Grade::Pass),
            (Err(on_disk()), Some(true), Grade::Fail),
            (Err(on_disk()), Some(false), Grade::Skip),
            (Err(on_disk()), None, Grade::Skip),
            (Err(Unfit::Swap("/x".into())), Some(false), Grade::Fail),
        ] {
            let found = judge_memory(looked, has_vaults);
            assert_eq!(found.grade, grade, "{found:?}");
            assert!(!found.seen.contains("next:"));
        }
    }
}
