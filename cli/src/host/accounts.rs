//! Users and groups of this machine, by name or number. One that is not there is told, never made.

use std::collections::BTreeSet;

use nix::unistd::{Group, Uid, User};

/// Who fetches secrets, and so needs the machine's identity.
pub const FETCHER: &str = "landfall-secrets";
/// The group of those who pull: watcher and agent.
pub const READERS: &str = "landfall";

/// Whom the guard lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    /// Their numbers, root's among them.
    pub users: BTreeSet<u32>,
    /// Their names as a person knows them.
    pub names: Vec<String>,
    /// Names that no user of this machine has.
    pub unknown: Vec<String>,
}

/// The fetcher's user, where there is one.
pub fn fetcher() -> Option<u32> {
    user(FETCHER)
}

/// The group of those who read registries' credentials, where there is one.
pub fn readers() -> Option<u32> {
    Group::from_name(READERS).ok().flatten().map(|group| group.gid.as_raw())
}

/// Root, the fetcher, and those who are named.
pub fn passes(named: &[String]) -> Passes {
    let mut passes = Passes {
        users: BTreeSet::from([Uid::from_raw(0).as_raw()]),
        names: vec!["root".to_owned()],
        unknown: Vec::new(),
    };
    for name in [FETCHER].into_iter().chain(named.iter().map(String::as_str)) {
        match user(name) {
            Some(id) => {
                if passes.users.insert(id) {
                    passes.names.push(name.to_owned());
                }
            }
            None => passes.unknown.push(name.to_owned()),
        }
    }
    passes
}

/// A number needs no account: a service with `DynamicUser=` or a process of a directory service has none in our sight.
fn user(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_there_keeps_nobody_else_out() {
        let named = ["nobody", "no-such-user", "4711", "root"].map(str::to_owned);
        let passes = passes(&named);
        assert!(passes.users.contains(&0) && passes.users.contains(&4711), "{passes:?}");
        assert!(passes.users.contains(&user("nobody").unwrap()));
        assert!(passes.unknown.contains(&"no-such-user".to_owned()));
        assert_eq!(passes.names.iter().filter(|name| *name == "root").count(), 1);
    }
}
