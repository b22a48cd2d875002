//! Can a container take this VM's identity? By the rules of the guard, and by trying it from a container.

use landfall_core::command::Output;
use landfall_core::layout::Layout;

use super::finding::{Finding, Subject};
use super::machine::Machine;
use crate::docker::{Answer, Engine, NoEngine, Probed};

const NFT: &str = "usr/sbin/nft";
const TABLE: [&str; 4] = ["list", "table", "inet", "landfall_guard"];
/// Azure's instance metadata, which gives out tokens of the VM's identity, and `WireServer`.
pub const FORBIDDEN: [&str; 3] = ["169.254.169.254:80", "168.63.129.16:80", "168.63.129.16:32526"];
const NEXT: &str = "`sudo landfall host`, and see `journalctl -u landfall-host`";

/// Whether the rules are in the kernel.
pub async fn rules(machine: &Machine) -> (Finding, bool) {
    let listed = match machine.needs_root() {
        Some(why) => Err(why),
        None => machine.run(NFT, &TABLE).await,
    };
    judge_rules(listed)
}

fn judge_rules(listed: Result<Output, String>) -> (Finding, bool) {
    let subject = Subject::new("guard", "the guard of the VM's identity is in the kernel");
    let listed = match listed {
        Ok(output) => output,
        Err(why) => return (subject.skip(why), false),
    };
    let text = String::from_utf8_lossy(&listed.stdout);
    let closed = |address: &str| text.contains(address) && (text.contains("drop") || text.contains("reject"));
    let addresses = FORBIDDEN.map(|address| address.split(':').next().unwrap_or_default());
    if !listed.success() {
        return (subject.fail("there is no table `inet landfall_guard`", NEXT), false);
    }
    match addresses.into_iter().find(|address| !closed(address)) {
        Some(open) => (subject.fail(format!("the table says nothing against {open}"), NEXT), false),
        None => (subject.pass("table `inet landfall_guard`"), true),
    }
}

/// Whether a container reaches any of the addresses; it is tried only where the rules say that it cannot.
pub async fn probe(layout: &Layout, engine: Result<&Engine, &NoEngine>, rules: bool, addresses: &[&str]) -> Finding {
    let program = layout.exec_program();
    let probed = match engine {
        _ if !rules => Err("the guard is not known to be active, so nothing was tried".to_owned()),
        Err(why) => Err(why.to_string()),
        Ok(_) if !program.is_file() => Err(format!("there is no `{}`", program.display())),
        Ok(engine) => engine.probe(&program, addresses).await,
    };
    judge_probe(probed)
}

fn judge_probe(probed: Result<Vec<Probed>, String>) -> Finding {
    let subject = Subject::new("guard-probe", "a container reaches neither instance metadata nor WireServer");
    let probed = match probed {
        Ok(probed) => probed,
        Err(why) => return subject.skip(why),
    };
    let (mut reached, mut not_tried, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for Probed { address, answer } in probed {
        match answer {
            Answer::Reached => reached.push(address),
            Answer::NotTried(why) => not_tried.push(format!("{address}: {why}")),
            Answer::Refused(_) => refused.push(address),
        }
    }
    if !reached.is_empty() {
        return subject.fail(format!("it reached {}", reached.join(", ")), NEXT);
    }
    if !not_tried.is_empty() || refused.is_empty() {
        return subject.skip(not_tried.join("; "));
    }
    subject.pass(format!("no connection to {}", refused.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn rules_must_close_each_address() {
        let output = |code, text: &str| Ok(Output { code, stdout: text.as_bytes().to_vec(), stderr: String::new() });
        let whole = "table inet landfall_guard {\n ip daddr 169.254.169.254 drop\n ip daddr 168.63.129.16 tcp dport 80 drop\n}\n";
        for (listed, grade, active) in [
            (output(0, whole), Grade::Pass, true),
            (output(0, "table inet landfall_guard {\n}\n"), Grade::Fail, false),
            (output(0, "ip daddr 169.254.169.254 drop"), Grade::Fail, false),
            (output(0, &whole.replace("drop", "accept")), Grade::Fail, false),
            (output(1, ""), Grade::Fail, false),
            (Err("there is no nft".to_owned()), Grade::Skip, false),
        ] {
            let shown = format!("{listed:?}");
            let (finding, is_active) = judge_rules(listed);
            assert_eq!((finding.grade, is_active), (grade, active), "{shown}");
        }
    }

    #[test]
    fn one_connection_is_too_many_and_one_that_was_not_tried_passes_nothing() {
        let probed = |answers: &[Answer]| {
            let one = |answer: &Answer| Probed { address: "a:1".to_owned(), answer: answer.clone() };
            Ok(answers.iter().map(one).collect::<Vec<_>>())
        };
        let (reached, refused) = (Answer::Reached, Answer::Refused("took no connection".to_owned()));
        let not_tried = Answer::NotTried("no network".to_owned());
        for (found, grade) in [
            (probed(&[refused.clone(), refused.clone()]), Grade::Pass),
            (probed(&[refused.clone(), reached.clone()]), Grade::Fail),
            (probed(&[not_tried.clone(), reached]), Grade::Fail),
            (probed(&[refused, not_tried]), Grade::Skip),
            (probed(&[]), Grade::Skip),
            (Err("no Engine".to_owned()), Grade::Skip),
        ] {
            assert_eq!(judge_probe(found.clone()).grade, grade, "{found:?}");
        }
    }
}
