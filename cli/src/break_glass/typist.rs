//! Who types: by the login, which `sudo` leaves as it is, and by what `sudo` says. Root can change both: this is for those who want to know
//! whom to ask, not a proof.

use landfall_core::ids::printable;
use nix::unistd::{Uid, User, geteuid};

/// The longest name that is shown.
const NAME: usize = 64;
/// The kernel's word for nobody who has logged in.
const UNSET: u32 = u32::MAX;

/// As it stands in the journal.
pub fn name() -> String {
    let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse().ok());
    let login = login.filter(|id| *id != UNSET).map(|id| of(Uid::from_raw(id)));
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty()).map(|name| printable(&name, NAME));
    told(login, sudo, of(geteuid()))
}

fn of(id: Uid) -> String {
    User::from_uid(id).ok().flatten().map_or_else(|| format!("user {id}"), |user| user.name)
}

fn told(login: Option<String>, sudo: Option<String>, user: String) -> String {
    match (login, sudo) {
        (Some(login), Some(sudo)) if login != sudo => format!("{login} (sudo says {sudo})"),
        (Some(login), _) => login,
        (None, Some(sudo)) => sudo,
        (None, None) => user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_comes_first_and_another_name_is_told() {
        for (login, sudo, expected) in [
            (Some("ops"), Some("ops"), "ops"),
            (Some("ops"), Some("ann"), "ops (sudo says ann)"),
            (Some("ops"), None, "ops"),
            (None, Some("ann"), "ann"),
            (None, None, "root"),
        ] {
            let said = told(login.map(str::to_owned), sudo.map(str::to_owned), "root".to_owned());
            assert_eq!(said, expected);
        }
    }
}
