//! Do our units run, and what could they reach if they were taken over?

use landfall_core::command::Output;

use super::finding::{Finding, Subject};
use super::machine::Machine;

const DAEMONS: [&str; 3] =
    ["landfall-agent.service", "landfall-image-watcher.service", "landfall-secrets-fetcher.service"];
/// Runs once, before Docker.
const ONESHOT: &str = "landfall-host.service";
/// What `systemd-analyze security` may say at most of a daemon, in tenths.
const EXPOSURE: u32 = 11;
const SYSTEMCTL: &str = "usr/bin/systemctl";
const ANALYZE: &str = "usr/bin/systemd-analyze";

/// All four, then the exposure of the daemons.
pub async fn check(machine: &Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    for unit in DAEMONS.into_iter().chain([ONESHOT]) {
        let properties = "--property=LoadState,ActiveState,SubState,Result,ExecMainExitTimestamp";
        let shown = ask(machine, SYSTEMCTL, &["show", "--no-pager", properties, unit]).await;
        found.push(active(unit, shown));
    }
    for unit in DAEMONS {
        let said = ask(machine, ANALYZE, &["security", "--no-pager", unit]).await;
        found.push(exposure(unit, said));
    }
    found
}

async fn ask(machine: &Machine, program: &str, arguments: &[&str]) -> Result<Output, String> {
    machine.needs_systemd().map_or(Ok(()), Err)?;
    machine.run(program, arguments).await
}

/// By what `systemctl show` says.
fn active(unit: &str, shown: Result<Output, String>) -> Finding {
    let subject = Subject::new("unit-active", format!("`{unit}` is active"));
    let shown = match shown {
        Ok(output) if output.success() => output,
        Ok(output) => return subject.skip(output.last_words()),
        Err(why) => return subject.skip(why),
    };
    let text = String::from_utf8_lossy(&shown.stdout);
    let of = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    let (load, state, result) = (of("LoadState"), of("ActiveState"), of("Result"));
    let seen = format!("{state}, {}, last result {result}", of("SubState"));
    if load != "loaded" {
        let load = if load.is_empty() { "no LoadState was said".to_owned() } else { load };
        return subject.fail(load, "install the package `landfall`");
    }
    // It may have ended, well.
    let was_run =
        unit == ONESHOT && state == "inactive" && result == "success" && !of("ExecMainExitTimestamp").is_empty();
    if state == "active" || was_run {
        return subject.pass(seen);
    }
    subject.fail(seen, format!("`systemctl start {unit}`, and see `journalctl -u {unit} -n 50`"))
}

/// By what `systemd-analyze security` says: `→ Overall exposure level for UNIT: 1.1 OK`.
fn exposure(unit: &str, said: Result<Output, String>) -> Finding {
    let subject = Subject::new("unit-exposure", format!("the exposure of `{unit}` is 1.1 at most"));
    let said = match said {
        Ok(output) => output,
        Err(why) => return subject.skip(why),
    };
    let text = String::from_utf8_lossy(&said.stdout);
    let level = text.lines().find_map(|line| {
        let (_, rest) = line.split_once("exposure level for ")?;
        let (whole, tenth) = rest.strip_prefix(unit)?.strip_prefix(':')?.split_whitespace().next()?.split_once('.')?;
        Some(whole.parse::<u32>().ok()? * 10 + tenth.parse::<u32>().ok()?)
    });
    match level {
        None => subject.skip(format!("`systemd-analyze security` named no level; {}", said.last_words())),
        Some(level) => {
            let seen = format!("{}.{}", level / 10, level % 10);
            if level <= EXPOSURE {
                subject.pass(seen)
            } else {
                subject.fail(
                    seen,
                    format!(
                        "see `systemd-analyze security {unit}`, and which drop-in loosens it: `systemctl cat {unit}`"
                    ),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    fn output(code: i32, stdout: &str) -> Output {
        Output { code, stdout: stdout.as_bytes().to_vec(), stderr: "no such thing".to_owned() }
    }

    #[test]
    fn a_daemon_is_active_and_a_oneshot_may_have_ended_well() {
        let agent = "landfall-agent.service";
        let table = [
            (agent, "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\n", Grade::Pass),
            (agent, "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\n", Grade::Fail),
            (agent, "LoadState=loaded\nActiveState=inactive\nResult=success\nExecMainExitTimestamp=Mon\n", Grade::Fail),
            (agent, "LoadState=not-found\nActiveState=inactive\n", Grade::Fail),
            (agent, "", Grade::Fail),
            (ONESHOT, "LoadState=loaded\nActiveState=active\nSubState=exited\nResult=success\n", Grade::Pass),
            (
                ONESHOT,
                "LoadState=loaded\nActiveState=inactive\nResult=success\nExecMainExitTimestamp=Mon\n",
                Grade::Pass,
            ),
            (ONESHOT, "LoadState=loaded\nActiveState=inactive\nResult=success\nExecMainExitTimestamp=\n", Grade::Fail),
            (
                ONESHOT,
                "LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainExitTimestamp=Mon\n",
                Grade::Fail,
            ),
        ];
        for (unit, text, grade) in table {
            assert_eq!(active(unit, Ok(output(0, text))).grade, grade, "{unit} {text}");
        }
        assert_eq!(active(agent, Ok(output(1, ""))).grade, Grade::Skip);
        assert_eq!(active(agent, Err("no systemd".to_owned())).grade, Grade::Skip);
    }

    #[test]
    fn the_exposure_is_the_number_of_this_unit() {
        let line = |level: &str| format!("✗ X  0.1\n\n→ Overall exposure level for a.service: {level} OK 🙂\n");
        for (text, grade) in [
            (line("1.1"), Grade::Pass),
            (line("0.9"), Grade::Pass),
            (line("1.2"), Grade::Fail),
            (line("9.6"), Grade::Fail),
            (line("10.0"), Grade::Fail),
            (line("?"), Grade::Skip),
            (line("1.1").replace("a.service", "b.service"), Grade::Skip),
            (String::new(), Grade::Skip),
        ] {
            assert_eq!(exposure("a.service", Ok(output(0, &text))).grade, grade, "{text}");
        }
    }
}
